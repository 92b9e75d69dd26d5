"""Checkpoints in folders and in object stores: two servers on this machine."""

import contextlib
import json
import signal
import socket
from unittest import mock
import uuid

import chex
import fsspec
import jax.numpy as jnp
import pytest

from experiments.engine import storage
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import UserError
from tests.conftest import Command
from tests.conftest import ENVIRONMENT
from tests.conftest import recorded
from tests.conftest import wait_for_step
from tests.experiments.engine.checkpoint_test import start

RUN = ("--config.train_examples=640", "--config.run.eval_every=20")


def free_port():
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]


def need(*packages):
  for package in packages:
    pytest.importorskip(package, reason=f"{package}: a server to try")


@pytest.fixture(scope="module")
def s3():
  """An S3 server's settings, as variables of the environment."""
  need("s3fs", "moto", "flask", "flask_cors")
  from moto.server import ThreadedMotoServer

  port = free_port()
  running = ThreadedMotoServer(port=port, verbose=False)
  running.start()
  yield {
      "AWS_ENDPOINT_URL": f"http://localhost:{port}",
      "AWS_ACCESS_KEY_ID": "key",
      "AWS_SECRET_ACCESS_KEY": "secret",
      "AWS_REGION": "us-east-1",
  }
  running.stop()


@pytest.fixture(scope="module")
def gs():
  """A server like Google's, likewise."""
  need("gcsfs", "google.cloud.storage", "gcp_storage_emulator")
  from gcp_storage_emulator import exceptions
  from gcp_storage_emulator import server
  from gcp_storage_emulator.handlers import objects

  download = objects.download

  def with_generation(request, response, storage, *args, **kwargs):
    # Google's answers have it, this server's do not, TensorStore wants it.
    names = request.params["bucket_name"], request.params["object_id"]
    with contextlib.suppress(exceptions.NotFound):
      response["X-Goog-Generation"] = storage.get_file_obj(*names)["generation"]
    download(request, response, storage, *args, **kwargs)

  port = free_port()
  running = server.create_server("localhost", port, in_memory=True)
  url = f"http://localhost:{port}"
  with mock.patch.object(objects, "download", with_generation):
    running.start()
    yield {
        "STORAGE_EMULATOR_HOST": url,
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
        "GOOGLE_CLOUD_PROJECT": "project",
    }
    running.stop()


@pytest.fixture(
    params=["gs", pytest.param("s3", marks=pytest.mark.slow)],
)
def bucket(request, monkeypatch):
  """The URL of a new bucket."""
  settings = request.getfixturevalue(request.param)
  for name, value in settings.items():
    monkeypatch.setenv(name, value)
    monkeypatch.setitem(ENVIRONMENT, name, value)
  name = f"bucket-{uuid.uuid4()}"
  fsspec.filesystem(request.param).mkdir(name)
  return f"{request.param}://{name}"


def save(place, steps, **how):
  state, _ = start()
  checkpoints = Checkpoints(place, keep=3, **how)
  for step in steps:
    state = state._replace(step=jnp.asarray(step))
    checkpoints.save(state)
  checkpoints.close()
  return state


def test_a_store_gives_back_what_was_saved_and_keeps_the_newest(bucket):
  place = f"{bucket}/some/run"
  state = save(place, (1, 2, 3, 4, 5))
  steps = {path.name for path in storage.place(place).iterdir()}
  assert steps == {"3", "4", "5"}
  restored = Checkpoints(place).restore(start()[1])
  chex.assert_trees_all_equal(restored, state)
  model, step = Checkpoints(place, read_only=True).restore_model(
      start()[1].model, "4"
  )
  assert step == 4
  chex.assert_trees_all_equal(model, state.model)


def test_in_a_store_damage_is_moved_aside_and_what_is_half_written_ignored(
    bucket,
):
  save(bucket, (1, 2, 3))
  folder = storage.place(bucket)
  files = list((folder / "3" / "model" / "d").iterdir())
  max(files, key=lambda path: path.stat().length).write_bytes(b"other")
  storage.move(folder / "2", folder / "9")
  (folder / "9" / "commit_success.txt").unlink()  # What is written last.
  notes = []
  state = Checkpoints(bucket, note=notes.append).restore(start()[1])
  assert int(state.step) == 1
  assert len(notes) == 1 and "3 is damaged" in notes[0]
  names = {path.name for path in folder.iterdir()}
  assert {"1", "damaged-3"} <= names and "3" not in names
  assert (folder / "damaged-3" / "model" / "d").is_dir()


@pytest.fixture(scope="module")
def whole(in_fork, training, tmp_path_factory):
  """The folder of a run that nothing happens to."""
  folder = tmp_path_factory.mktemp("whole")
  code, _, err = in_fork(*training(folder, *RUN))
  assert code == 0, err
  return folder


def test_a_run_goes_on_from_a_store_and_is_evaluated_there(
    train, data_dir, bucket, whole, tmp_path
):
  url = f"--config.run.checkpoints={bucket}/run"
  run = tmp_path / "run"
  command = train(run, *RUN, url, "--config.run.checkpoint_every=9")
  wait_for_step(command, run, 11)
  command.process.send_signal(signal.SIGTERM)
  command.wait()
  code, out, err = train(
      run, *RUN, url, "--config.run.checkpoint_every=9"
  ).wait()
  assert code == 0, err
  assert "resumes after step" in out
  assert not (run / "checkpoints").exists()
  for one, other in zip(recorded(run), recorded(whole), strict=True):
    assert one.get("train/loss") == other.get("train/loss")
  code, out, err = Command(
      "experiments.evaluate",
      "--config=configs/quickstart.py:mini",
      f"--config.data_dir={data_dir}",
      f"--workdir={run}",
      "--json=-",
  ).wait()
  assert code == 0, err
  assert json.loads(out)["test/loss"] == recorded(run)[-1]["test/loss"]
  code, _, err = train(run, *RUN).wait()
  assert code == 2
  assert f"run.checkpoints is {bucket}/run there" in err


def test_a_folder_is_named_by_a_path_or_a_url(tmp_path):
  name = f"file://{tmp_path}/here"
  state = save(name, (1, 2))
  assert (tmp_path / "here" / "2").is_dir()
  restored = Checkpoints(tmp_path / "here").restore(start()[1])
  chex.assert_trees_all_equal(restored, state)


def test_the_checkpoints_of_another_config_are_refused(tmp_path):
  mine = {"seed": 0, "run": {"checkpoints": "", "log_every": 1}}
  save(tmp_path, (1, 2), config=mine)
  Checkpoints(tmp_path, config=mine | {"run": {"log_every": 2}})
  (tmp_path / "3.orbax-checkpoint-tmp").mkdir()
  with pytest.raises(UserError, match="seed is 0 there and 1 here"):
    Checkpoints(tmp_path, config=mine | {"seed": 1})
  # Perhaps that run is writing it.
  assert (tmp_path / "3.orbax-checkpoint-tmp").is_dir()


def test_a_url_that_cannot_be_used_says_what_can(monkeypatch):
  with pytest.raises(UserError, match="gs:// or s3:// was expected, not hdfs"):
    storage.place("hdfs://host/run")
  monkeypatch.setitem(storage.PACKAGES, "s3", ("no_such_package",))
  with pytest.raises(
      UserError, match=r"s3://b/run needs `pip install -e '.\[s"
  ):
    storage.place("s3://b/run")
