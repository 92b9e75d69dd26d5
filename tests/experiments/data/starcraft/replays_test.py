"""Real replays, and what is prepared of a folder of them."""

import os
import pathlib
import shutil

import numpy as np
import pytest

from experiments.data import pipeline
from experiments.data.builders import starcraft2
from experiments.data.starcraft import game as replay_game
from experiments.data.starcraft import replays
from experiments.data.starcraft.features import ENEMY
from experiments.data.starcraft.features import REPLAY_UNITS
from experiments.data.starcraft.features import SELF
from experiments.data.starcraft.features import type_index
from scripts import prepare_data
from tests.conftest import ROOT

REAL = pathlib.Path(
    os.environ.get("PERCEIVER_TEST_DATA", ROOT.parent / "shared" / "data")
)
# Three minutes, with an observer, of 2.0.9; 2 minutes against the game's AI, of
# 4.3; the beginning of a mission for two people.
SHORT = (
    "2.0.8.25605__ggtracker_3663861.SC2Replay",
    "4.3.0.64469__1.SC2Replay",
    "4.11.0.77379__Oblivion_Express.SC2Replay",
)
RESUMED = "2.0.11.26825__bad_unit_ids_1.SC2Replay"
UNTRACKED = "4.1.2.60604__1.SC2Replay"


def real(name):
  path = REAL / "starcraft2" / "replays" / name
  if not path.exists():
    pytest.skip(f"{path} is not there; PERCEIVER_TEST_DATA names its folder")
  return path


@pytest.mark.parametrize(
    "name, races, moments",
    [
        (SHORT[0], {1: "Terran", 2: "Terran"}, 80),
        (SHORT[1], {1: "Protoss", 2: "Terran"}, 40),
        (SHORT[2], {1: "Terran", 2: "Zerg"}, 3),
    ],
)
def test_a_real_game_is_read(name, races, moments):
  game = replays.play(real(name))
  assert game.info["races"].items() >= races.items()
  assert len(game.frames) >= moments
  assert (np.diff(game.frames) >= 0).all() and game.info["file"] == name
  for units, selected in zip(game.units, game.selected, strict=True):
    assert units.shape == (len(selected), len(REPLAY_UNITS))
    side = units[:, REPLAY_UNITS.index("alliance")]
    # Only own units are selected, and what is selected changes.
    assert selected.any() and (side[selected] == SELF).all()
    now = units[:, REPLAY_UNITS.index("is_selected")] > 0
    assert (now != selected).any()
    assert (side == SELF).sum() > 1
  # At the beginning nothing is known of the enemy.
  assert (game.units[0][:, 1] != ENEMY).all()


def test_buildings_that_are_selected_are_on_the_screen():
  game = replays.play(real(SHORT[0]))
  kinds = {
      type_index(name)
      for name in ("CommandCenter", "Barracks", "SupplyDepot", "Factory")
  }
  seen = [
      units[row, REPLAY_UNITS.index("is_on_screen")]
      for units, selected in zip(game.units, game.selected, strict=True)
      for row in np.flatnonzero(selected)
      if selected.sum() == 1 and units[row, 0] in kinds
  ]
  assert len(seen) >= 10 and np.mean(seen) > 0.95


def test_a_replay_gives_the_same_each_time():
  first, second = (
      replays.packed(replays.play(real(SHORT[1]))) for _ in range(2)
  )
  assert first == second
  again = replays.packed(replays.unpacked(first))
  assert again == first


@pytest.mark.parametrize(
    "name, kind",
    [(RESUMED, "resumed from another game"), (UNTRACKED, "without tracker")],
)
def test_a_replay_of_no_use_says_why(name, kind):
  with pytest.raises(replay_game.ReplayError, match=f"{name}: {kind}"):
    replays.play(real(name))


def test_a_damaged_file_says_so(tmp_path):
  path = tmp_path / "damaged.SC2Replay"
  content = real(SHORT[1]).read_bytes()
  damaged = {
      "empty": b"",
      "text": b"no replay",
      "cut": content[: len(content) // 3],
  }
  for how, data in damaged.items():
    path.write_bytes(data)
    with pytest.raises(replay_game.ReplayError) as raised:
      replays.play(path)
    assert raised.value.kind == "damaged or unsupported", how
    assert str(raised.value).startswith("damaged.SC2Replay: damaged")


def test_a_file_with_holes_is_read_or_left_out(tmp_path):
  content, kinds = real(SHORT[1]).read_bytes(), []
  for start in range(0, len(content), 4000):
    path = tmp_path / f"{start}.SC2Replay"
    path.write_bytes(content[:start] + bytes(500) + content[start + 500 :])
    try:
      replays.play(path)
    except replay_game.ReplayError as error:
      kinds.append(error.kind)
  assert len(kinds) > 2 and "damaged or unsupported" in kinds


@pytest.fixture
def folder(tmp_path):
  """Games in folders, one of them twice, and what is no game."""
  place = tmp_path / "manual"
  (place / "more").mkdir(parents=True)
  shutil.copy(real(SHORT[0]), place)
  shutil.copy(real(SHORT[1]), place / "more")
  shutil.copy(real(SHORT[1]), place / "more" / "copy.SC2Replay")
  shutil.copy(real(RESUMED), place)
  (place / "broken.SC2Replay").write_bytes(b"no replay")
  (place / "readme.txt").write_bytes(b"")
  return place


def prepare(tmp_path, folder):
  prepare_data.main(
      ["starcraft2", f"--manual_dir={folder}", f"--data_dir={tmp_path}"]
  )


@pytest.fixture(autouse=True)
def split_as(monkeypatch):
  """One of the two games is held out, in this process."""
  monkeypatch.setattr(starcraft2.os, "cpu_count", lambda: 1)
  first = replays.play(real(SHORT[0])).info["key"]
  monkeypatch.setattr(
      replays,
      "split_of",
      lambda key, held_out: "validation" if key == first else "train",
  )


def test_a_folder_is_prepared_and_bad_files_are_counted(
    tmp_path, folder, capsys
):
  prepare(tmp_path, folder)
  notes = capsys.readouterr().err
  assert "broken.SC2Replay: damaged or unsupported" in notes
  assert (
      "3 of 5 files left out: 1 damaged or unsupported, 1 resumed from another"
      " game, 1 the same file again" in notes
  )
  for split, name in (("train", SHORT[1]), ("validation", SHORT[0])):
    source = pipeline.source("starcraft2", split, str(tmp_path))
    expected = replays.play(real(name))
    assert len(source) == len(expected.frames)
    by_frame = {
        (int(frame), int(player)): i
        for i, (frame, player) in enumerate(
            zip(expected.frames, expected.players, strict=True)
        )
    }
    for i in range(0, len(source), 7):
      example = source[i]
      # No moment of a game is in another split.
      assert bytes(example["game"]).decode().endswith(".SC2Replay")
      at = by_frame[int(example["frame"]), int(example["player"])]
      np.testing.assert_array_equal(example["units"], expected.units[at])
      np.testing.assert_array_equal(example["selected"], expected.selected[at])


def test_what_was_read_is_not_read_again(tmp_path, folder, monkeypatch):
  prepare(tmp_path, folder)
  shutil.rmtree(tmp_path / "starcraft2" / "1.0.0")
  read = []
  play = replays.play
  monkeypatch.setattr(
      replays, "play", lambda path: read.append(path.name) or play(path)
  )
  shutil.copy(real(SHORT[2]), folder)
  prepare(tmp_path, folder)
  assert read == [SHORT[2]]
  source = pipeline.source("starcraft2", "train", str(tmp_path))
  games = {bytes(source[i]["game"]).decode() for i in range(len(source))}
  assert len(games) == 2 and SHORT[2] in games


def test_two_replays_of_a_game_are_one_game(tmp_path, folder):
  # The other player's file: the same game, in other bytes.
  other = folder / "more" / "copy.SC2Replay"
  other.write_bytes(other.read_bytes() + b"\0")
  results = list(replays.read(replays.files(folder), tmp_path / "games", 1))
  names = {result.counts["name"] for result in results}
  assert len(names) == 5
  found = list(replays.played(results, tmp_path / "games", "train"))
  assert len(found) == 1


@pytest.mark.parametrize("content", ["nothing", "no replays"])
def test_one_line_says_what_is_missing(tmp_path, capsys, content):
  place = tmp_path / "manual"
  place.mkdir()
  if content == "no replays":
    (place / "readme.txt").write_text("")
  with pytest.raises(SystemExit) as ended:
    prepare(tmp_path, place)
  *_, last = capsys.readouterr().err.splitlines()
  assert ended.value.code == 2 and last.startswith("error: ")
  assert str(place) in last
