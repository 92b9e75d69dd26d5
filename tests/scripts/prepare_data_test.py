"""The command that prepares data, and its being killed."""

import os
import pathlib
import signal
import time

import cv2
import numpy as np
import pytest
import sentencepiece

from experiments.data.flow import sets
from experiments.data.text import tokenizers
from scripts import prepare_data
from tests.conftest import Command
from tests.experiments.data.text.corpus_test import contents
from tests.experiments.data.text.corpus_test import page
from tests.experiments.data.text.corpus_test import write_c4
from tests.experiments.data.text.corpus_test import write_dump

MODULE = "scripts.prepare_data"


def prepare(*args):
  code, out, err = Command(MODULE, *map(str, args)).wait()
  assert code == 0, err
  return out, err


def children(pid):
  return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def runs(pid):
  try:
    return "(zombie)" not in pathlib.Path(f"/proc/{pid}/status").read_text()
  except FileNotFoundError:
    return False


def wait_until(is_so, seconds=60):
  end = time.monotonic() + seconds
  while not is_so():
    assert time.monotonic() < end
    time.sleep(0.005)


@pytest.fixture(scope="module")
def words():
  """Text of invented words."""
  rng = np.random.default_rng(3)
  letters = [bytes(x).decode() for x in rng.integers(97, 123, [300, 5], "u1")]
  return lambda count: " ".join(rng.choice(letters, count))


@pytest.mark.slow
def test_a_killed_preparation_goes_on_and_makes_the_same(tmp_path, words):
  line = words(100)
  for number in range(8):
    lines = [f"{number} {i} {line}" for i in range(8000)]
    write_c4(tmp_path / "c4", "train", number, lines)
  args = ["mlm", f"--c4={tmp_path / 'c4'}", "--processes=2"]
  prepare(*args, f"--data_dir={tmp_path / 'whole'}")
  killed = tmp_path / "killed"
  command = Command(MODULE, *args, f"--data_dir={killed}")
  process = command.process
  wait_until(lambda: list(killed.glob("c4/train/[!.]*.array_record")))
  workers = children(process.pid)
  assert len(workers) >= 2
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  wait_until(lambda: not any(map(runs, workers)))
  assert not (killed / "c4" / "corpus.json").exists()
  done = list(killed.glob("c4/train/[!.]*.array_record"))
  assert 0 < len(done) < 8
  times = {file: file.stat().st_mtime_ns for file in done}
  prepare(*args, f"--data_dir={killed}")
  assert contents(killed) == contents(tmp_path / "whole")
  assert {file: file.stat().st_mtime_ns for file in done} == times


def test_a_killed_worker_is_one_line(tmp_path, words):
  lines = [f"{i} {words(3)}" for i in range(50_000)]
  for number in range(2):
    write_c4(tmp_path / "c4", "train", number, lines)
  args = [f"--c4={tmp_path / 'c4'}", f"--data_dir={tmp_path}", "--processes=2"]
  command = Command(MODULE, "mlm", *args)
  partials = lambda: list(tmp_path.glob("c4/train/.partial-*"))
  wait_until(partials)
  writing, *_ = partials()
  os.kill(int(writing.name.split("-")[1]), signal.SIGKILL)
  code, out, err = command.wait()
  assert code == 2 and not out
  assert len(err.splitlines()) == 1 and "a process was killed" in err


def test_tables_say_what_was_kept_and_what_was_left_out_and_why(tmp_path):
  write_c4(tmp_path, "train", 0, ["One.", b"{", "Two."])
  pages = [page("A", "Three."), page("B", "x", redirect="<redirect/>")]
  write_dump(tmp_path / "a.xml.bz2", pages)
  (tmp_path / "a.txt").write_text("Four.")
  out, err = prepare(
      "mlm",
      f"--c4={tmp_path / '*.gz'}",
      f"--wikipedia={tmp_path / 'a.xml.bz2'}",
      f"--text=mine={tmp_path / '*.txt'}",
      f"--data_dir={tmp_path / 'data'}",
      "--held_out=0",
  )
  rows = [
      [word.strip() for word in line.split("│")[1:-1]]
      for line in out.splitlines()
  ]
  for row in (
      ["c4", "train", "2", "8", "1"],
      ["wikipedia", "train", "1", "6", "1"],
      ["mine", "train", "1", "5", "1"],
      ["c4", "malformed JSON", "1"],
      ["wikipedia", "redirect", "1"],
  ):
    assert row in rows
  (note,) = err.splitlines()
  assert "note: c4-train.00000-of-00008.json.gz, line 2: malformed" in note


MISTAKES = {
    "no name": ([], "the following arguments are required: NAME"),
    "an unknown name": (["wikitext"], "invalid choice: 'wikitext'"),
    "no source": (["mlm"], "--c4, --wikipedia or --text is missing"),
    "a missing file": (
        ["mlm", "--c4=/nowhere/*.gz"],
        "/nowhere/*.gz: there is",
    ),
    "a name without files": (["mlm", "--text=mine"], "not --text=NAME=GLOB"),
    "a name that is taken": (["mlm", "--text=c4=a.txt"], "use --c4 for that"),
    "a bad number": (["mlm", "--processes=-1"], "--processes=-1"),
    "a missing corpus": (
        ["sentencepiece", "--corpus=mine", "--model=a.model"],
        "python -m scripts.prepare_data mlm --text=mine=FILES",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_says_what_is_wrong(tmp_path, capsys, mistake):
  args, message = MISTAKES[mistake]
  data_dir = [f"--data_dir={tmp_path}"] if args else []
  with pytest.raises(SystemExit) as ended:
    prepare_data.main([*args, *data_dir])
  out, err = capsys.readouterr()
  assert ended.value.code == 2 and not out
  assert message in err and len(err.splitlines()) == 1
  assert not list(tmp_path.iterdir())


def test_pieces_are_learnt_after_the_special_ids(tmp_path, words):
  for name in ("a", "b"):
    (tmp_path / f"{name}.txt").write_text(
        "\n\n".join(words(30) for _ in range(200))
    )
    prepare(
        "mlm", f"--text={name}={tmp_path / name}.txt", f"--data_dir={tmp_path}"
    )
  learn = lambda model, *args: Command(
      MODULE,
      "sentencepiece",
      "--corpus=a,b",
      f"--data_dir={tmp_path}",
      f"--model={tmp_path / model}",
      *args,
  ).wait()
  code, _, err = learn("1.model", "--vocabulary_size=600")
  assert code == 0, err
  processor = sentencepiece.SentencePieceProcessor(
      model_file=str(tmp_path / "1.model")
  )
  assert processor.get_piece_size() == 600
  names = ["[PAD]", "[BOS]", "[EOS]", "[MASK]", "[CLS]", "[SEP]", "[UNK]"]
  assert [processor.id_to_piece(i) for i in range(7)] == names
  assert processor.unk_id() == 6
  special = [
      tokenizers.PAD,
      tokenizers.BOS,
      tokenizers.EOS,
      tokenizers.MASK,
      tokenizers.CLS,
      tokenizers.SEP,
  ]
  assert all(processor.is_control(i) for i in special)
  # Text can name no special token, and there is no text without tokens.
  sentence = f"{words(7)} [MASK] 日本 ✂"
  ids = processor.encode(sentence)
  assert min(ids) > 6 and processor.decode(ids) == sentence
  assert len(processor.encode(words(20))) < 50  # It has learnt the words.
  assert learn("2.model", "--vocabulary_size=600")[0] == 0
  first, second = (tmp_path / f"{i}.model" for i in (1, 2))
  assert first.read_bytes() == second.read_bytes()
  code, out, err = learn("3.model", "--vocabulary_size=90000")
  assert code == 2 and "Vocabulary size too high (90000)" in err and not out
  assert len(err.splitlines()) == 1 and not (tmp_path / "3.model").exists()


def test_scenes_are_drawn_once_and_read_as_autoflows(tmp_path):
  folder = tmp_path / "textures"
  folder.mkdir()
  rng = np.random.default_rng(3)
  for i in range(4):
    picture = rng.integers(0, 255, [41, 43, 3], np.uint8)
    cv2.imwrite(str(folder / f"{i}.png"), picture)
  args = ["scenes", f"--data_dir={tmp_path}", "--processes=2"]
  args += ["--size", "29", "31", f"--textures={folder}"]
  out, _ = prepare(*args, "--pairs=5")
  assert out == f"5 pairs of 29 x 31 in {tmp_path / 'autoflow'}\n"
  pairs = sets.open_pairs("autoflow", str(tmp_path))
  assert len(pairs) == 5 and pairs[4]["frames"].shape == (2, 29, 31, 3)
  before = contents(tmp_path / "autoflow")
  prepare(*args, "--pairs=6")
  after = contents(tmp_path / "autoflow")
  assert before.items() < after.items()
  code, _, err = Command(MODULE, "scenes", "--textures=nowhere").wait()
  assert code == 2 and "nowhere holds no images" in err
