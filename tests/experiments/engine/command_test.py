"""What a person gets wrong ends in one clear line, before anything happens."""

import json
import subprocess
import sys

import pytest

from experiments.engine import command
from tests.conftest import Command
from tests.conftest import ENVIRONMENT
from tests.conftest import ROOT

MISTAKES = {
    "an unknown key": (
        ["--config.model.encoder.num_latent=3"],
        "(did you mean 'num_latents'?)",
    ),
    "a wrong type": (["--config.batch_size=many"], "a whole number was"),
    "an unknown variant": (
        ["--config=configs/quickstart.py:mni"],
        "'mni' (did you mean 'mini'?) is not one of full, mini",
    ),
    "a missing config": (
        ["--config=configs/quick.py"],
        "no config 'configs/quick.py' (did you mean 'configs/quickstart.py'?)",
    ),
    "an unknown task": (["--config.task=digit"], "no experiments/digit.py"),
    "an unknown input": (
        ["--config.model.input.name=pixls"],
        "'pixls' (did you mean 'pixels'?) is not one of learned_positions,",
    ),
    "an unknown optimizer": (
        ["--config.optimizer.name=lmb"],
        "(did you mean 'lamb'?) is not one of adam, adamw, lamb, sgd",
    ),
    "heads that do not fit": (
        ["--config.model.processor.num_heads=5"],
        "the 16 qk channels do not split into 5 heads",
    ),
    "an unknown dtype": (["--config.compute_dtype=float16"], "'float16'"),
    "an unknown flag": (["--speed=3"], "Unknown command line flag 'speed'"),
    "a setting of a misspelt config": (
        ["--confg.seed=3"],
        "there is no flag --confg.seed: --config.seed?",
    ),
    "a stray word": (["faster"], "unexpected arguments: faster"),
    "missing data": (
        ["--config.data_dir=/nowhere"],
        "python -m scripts.prepare_data digits --data_dir=/nowhere",
    ),
    "a run without a step": (
        ["--config.batch_size=4000"],
        "192 is less than one batch of 4000",
    ),
    "no clipping norm": (
        ["--config.max_grad_norm=-1"],
        "max_grad_norm = -1.0: a finite number above 0 was expected",
    ),
    "a negative rate": (
        ["--config.schedule.peak=-1e-3"],
        "schedule.peak = -0.001: a finite number of at least 0 was expected",
    ),
    "an infinite rate": (["--config.schedule.peak=1e999"], "schedule.peak"),
    "no heads": (
        ["--config.model.processor.num_heads=0"],
        "num_heads = 0: a finite number of at least 1 was expected",
    ),
    "negative heads": (
        ["--config.model.decoder.num_heads=-4"],
        "num_heads = -4: a finite number of at least 1 was expected",
    ),
    "no latents": (
        ["--config.model.encoder.num_latents=0"],
        "latents: num_elements = 0: a finite number of at least 1",
    ),
    "no layers": (
        ["--config.model.processor.layers_per_block=0"],
        "layers_per_block = 0: a finite number of at least 1 was",
    ),
    "an empty hidden layer": (
        ["--config.model.decoder.widening_factor=0"],
        "widening_factor = 0: a finite number of at least 1 was",
    ),
    "a part of more than all": (
        ['--config.schedule={"name":"flat_then_cosine","peak":1,"flat":1.5}'],
        "schedule.flat = 1.5: a finite number from 0 to 1 was expected",
    ),
    "a momentum that explodes": (
        ['--config.optimizer={"name":"sgd","momentum":1.1}'],
        "optimizer.momentum = 1.1: a finite number from 0 to 1 was expected",
    ),
    "no batch": (["--config.batch_size=0"], "batch_size = 0: a finite number"),
    "a batch of None": (["--config.batch_size=None"], "a whole number was"),
    "a negative seed": (
        ["--config.seed=-1"],
        "seed = -1: a finite number from 0 to 4294967295 was expected",
    ),
    "a huge seed": (["--config.seed=9" + "0" * 30], "seed = 9000"),
    "huge numbers of examples": (
        ["--config.train_examples=9" + "0" * 400],
        "train_examples = 9000",
    ),
    "more steps than a number of them holds": (
        ["--config.train_examples=1000000000000"],
        "train_examples 1000000000000 are 62500000000 steps, more than 2147483",
    ),
    "negative numbers of examples": (
        ["--config.train_examples=-16"],
        "train_examples = -16: a finite number from 1",
    ),
    "too many workers": (["--config.num_workers=100000"], "from 0 to 1024"),
    "logging every zero steps": (
        ["--config.run.log_every=0"],
        "run.log_every = 0: a finite number of at least 1 was expected",
    ),
    "saving every zero steps": (
        ["--config.run.checkpoint_every=0"],
        "run.checkpoint_every = 0",
    ),
    "evaluating every -1 steps": (
        ["--config.run.eval_every=-1"],
        "run.eval_every = -1",
    ),
    "a profile after the end": (
        ["--config.run.profile_steps=2", "--config.run.profile_from=13"],
        "run.profile_from = 13: a finite number from 0 to 12 was expected",
    ),
    "a best metric that is misspelt": (
        ["--config.best=test/top2"],
        "'test/top2' (did you mean 'test/top1'?) is not one of test/loss,",
    ),
    "a best metric of no eval": (
        ["--config.best=dev/top1"],
        "config.best = 'dev/top1' is not one of test/...",
    ),
    "weights that are not there": (
        ["--config.init.pretrained=/nowhere.npz"],
        "/nowhere.npz: there is no such file",
    ),
    "an empty folder's name": (["--workdir="], "--workdir=DIR is missing"),
    "half of the processes' flags": (
        ["--coordinator=localhost:1"],
        "--coordinator needs --num_processes and --process_id",
    ),
}


def test_a_mistake_ends_a_process_of_its_own_with_the_same_line(
    train, in_fork, training, tmp_path
):
  changes, _ = MISTAKES["an unknown key"]
  own = train(tmp_path, *changes).wait()
  assert own == in_fork(*training(tmp_path, *changes))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_says_what_is_wrong(in_fork, training, tmp_path, mistake):
  changes, message = MISTAKES[mistake]
  workdir = tmp_path / "run"
  code, out, err = in_fork(*training(workdir, *changes))
  assert code == 2
  assert message in err
  assert len(err.splitlines()) == 1 and not out
  assert not workdir.exists()


def test_a_folder_that_cannot_be_written_stops_before_compiling(
    train, tmp_path
):
  (tmp_path / "file").write_text("no folder")
  code, out, err = train(tmp_path / "file" / "run").wait()
  assert code == 2
  assert "Not a directory" in err and str(tmp_path / "file") in err
  assert len(err.splitlines()) == 1
  assert not out


def test_a_folder_belongs_to_one_config(in_fork, training, tmp_path):
  command = training(tmp_path, "--config.train_examples=48")
  code, _, err = in_fork(*command)
  assert code == 0, err
  before = (tmp_path / "metrics.jsonl").read_bytes()
  code, _, err = in_fork(*command, "--config.seed=3")
  assert code == 2
  assert "seed is 0 there and 3 here" in err
  assert (tmp_path / "metrics.jsonl").read_bytes() == before
  # How often to look at a run is not part of what it is.
  code, _, err = in_fork(*command, "--config.run.log_every=7")
  assert code == 0, err


def test_the_exit_code_is_the_same_where_nothing_can_be_said():
  with open("/dev/full", "w") as full:  # As a log on a disk that is full.
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--config=nowhere.py"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=full,
    )
  assert done.returncode == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def get_config():\n  return 1 / 0\n",
            "line 2: ZeroDivisionError: div",
        ),
        (
            "import nothing_of_this_name\n",
            "line 1: ModuleNotFoundError: No mod",
        ),
        ("def get_config(:\n", "line 1: SyntaxError: invalid syntax"),
        ("x = 1\n", "defines no get_config"),
        (
            "def get_config():\n  return None\n",
            "returns None, not a config",
        ),
    ],
)
def test_an_error_in_a_config_file_is_one_line(
    in_fork, tmp_path, text, message
):
  file = tmp_path / "mine.py"
  file.write_text(text)
  code, out, err = in_fork("scripts.describe", f"--config={file}")
  assert code == 2 and not out
  assert str(file) in err and message in err
  assert len(err.splitlines()) == 1


COMMANDS = {
    "scripts.predict": (
        ["clasify", "--weights=random", "a.png"],
        "'clasify' (did you mean 'classify'?)",
    ),
    "scripts.prepare_data": (
        ["kinetic"],
        "'kinetic' (did you mean 'kinetics'?",
    ),
    "scripts.convert_weights": (
        ["--download=langage", "--output=a.npz"],
        "--download=langage (did you mean 'language'?) is not one of",
    ),
    "scripts.sweep": (
        ["--config=configs/quickstart.py:mini", "--workdir=DIR"],
        "--sweep='SETTING=VALUE,VALUE;...' is missing",
    ),
    "scripts.describe": (
        ["--config=configs/flow.py:mimi"],
        "'mimi' (did you mean 'mini'?)",
    ),
    "tools.check_parity": (["--reference=a"], "Unknown command line flag"),
    "scripts.show_attention": (
        [
            "--weights=random",
            "--config=configs/imagenet.py:tiny",
            "--output={}",
            "{}/no.png",
        ],
        "error: No such file or directory: '{}/no.png'",
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_names_what_was_meant(in_fork, tmp_path, command):
  args, message = COMMANDS[command]
  args = [arg.format(tmp_path) for arg in args]
  code, out, err = in_fork(command, *args)
  assert code == 2 and not out
  assert message.format(tmp_path) in err
  errors = [line for line in err.splitlines() if not line.startswith("note: ")]
  assert len(errors) == 1


def test_a_task_of_another_project_is_named_with_a_dot(
    in_fork, data_dir, tmp_path
):
  (tmp_path / "lab").mkdir()
  (tmp_path / "lab" / "own_digits.py").write_text(
      "from experiments.digits import SETTINGS, task\n"
  )
  config = tmp_path / "mine.py"
  config.write_text(
      "from configs import quickstart\n\ndef get_config():\n"
      "  config = quickstart.get_config('mini')\n"
      "  config.task = 'lab.own_digits'\n  config.train_examples = 32\n"
      "  return config\n"
  )
  workdir = tmp_path / "run"
  args = [f"--config={config}", f"--data_dir={data_dir}"]
  code, out, err = in_fork("experiments.train", *args, f"--workdir={workdir}")
  assert code == 0, err
  assert "task lab.own_digits: 9,111 parameters" in out + err
  code, _, err = in_fork("experiments.evaluate", *args, f"--workdir={workdir}")
  assert code == 0, err
  # The name in a run's folder imports nothing by itself.
  code, _, err = in_fork("experiments.evaluate", f"--workdir={workdir}")
  assert code == 2
  assert "'lab.own_digits' is a module outside of experiments" in err
  config.write_text(config.read_text().replace("lab.own", "lab.none"))
  code, _, err = in_fork("experiments.train", *args, f"--workdir={workdir}")
  assert code == 2
  assert f"there is no such module in {tmp_path}" in err


def test_evaluation_takes_the_runs_own_config(in_fork, training, tmp_path):
  changes = [
      "--config.train_examples=32",
      "--config.model.encoder.num_latents=3",
  ]
  code, _, err = in_fork(*training(tmp_path, *changes))
  assert code == 0, err
  args = [f"--workdir={tmp_path}", "--json=-"]
  code, out, err = in_fork("experiments.evaluate", *args)
  assert code == 0, err
  last = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
  assert json.loads(out)["test/loss"] == pytest.approx(
      json.loads(last)["test/loss"]
  )
  code, _, err = in_fork("experiments.evaluate", f"--workdir={tmp_path}/none")
  assert code == 2 and "config.json: --config=configs/FILE.py" in err


def test_a_variable_of_the_environment_says_where_data_lives(tmp_path):
  args = ["--config=configs/quickstart.py:mini", f"--workdir={tmp_path}/run"]
  environment = {"PERCEIVER_DATA": str(tmp_path)}
  command = Command("experiments.train", *args, environment=environment)
  code, _, err = command.wait()
  assert code == 2
  assert f"no data set 'digits' in {tmp_path}: prepare it with" in err
  assert "--data_dir=FOLDER, or the environment variable PERCEIVER_DATA" in err


def test_an_interrupt_is_one_line(capsys):
  with pytest.raises(SystemExit) as ended, command.one_line_errors():
    raise KeyboardInterrupt
  assert ended.value.code == 130
  assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 300, "a name is too long"), ("circle", "links lead in a circle")],
)
def test_what_the_system_refuses_is_one_line(
    tmp_path, capsys, monkeypatch, name, reason
):
  (tmp_path / "circle").symlink_to("circle")
  monkeypatch.setattr(command.os, "_exit", sys.exit)
  with pytest.raises(SystemExit), command.one_line_errors():
    (tmp_path / name).read_bytes()
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f"error: stopped, {reason}: ") and name in line
