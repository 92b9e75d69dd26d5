"""What becomes of a replay's events: who was there, and who was selected."""

import types

import numpy as np
import pytest

from experiments.data.starcraft import features as unit_features
from experiments.data.starcraft import game as replay_game
from experiments.data.starcraft.features import NEVER
from experiments.data.starcraft.features import REPLAY_UNITS
from experiments.data.starcraft.features import type_index
from experiments.data.starcraft.world import SPEED

ME, FOE, FRIEND = (types.SimpleNamespace(pid=pid) for pid in (1, 2, 3))
SCREEN = (50.0, 50.0)


class Event(types.SimpleNamespace):
  """As sc2reader's: a name, a frame, and what else there is."""


def born(id, kind, owner=1, frame=0, x=50, y=50, name="UnitBornEvent"):
  return Event(
      name=name,
      frame=frame,
      unit_id=id,
      unit_id_index=id // 10,
      unit_type_name=kind,
      control_pid=owner,
      x=x,
      y=y,
  )


def died(id, frame, killer=None, location=(1.0, 2.0)):
  return Event(
      name="UnitDiedEvent",
      frame=frame,
      unit_id=id,
      killing_unit_id=killer,
      location=location,
  )


def changed(id, kind, frame):
  name = "UnitTypeChangeEvent"
  return Event(name=name, frame=frame, unit_id=id, unit_type_name=kind)


def camera(frame=0, player=ME, location=SCREEN):
  event = Event(name="CameraEvent", frame=frame, player=player)
  event.location = location
  return event


def select(frame, *ids, keep=(), player=ME, mask="ZeroIndices", group=10):
  """Selects these; of what was selected, places in `keep` stay."""
  return Event(
      name="SelectionEvent",
      frame=frame,
      player=player,
      control_group=group,
      mask_type=mask,
      mask_data=list(keep),
      new_unit_ids=list(ids),
  )


def control(name, frame, group, mask="None", data=()):
  return Event(
      name=f"{name}ControlGroupEvent",
      frame=frame,
      player=ME,
      control_group=group,
      mask_type=mask,
      mask_data=list(data),
  )


def command(frame, where, ability="", target=None, name="TargetPoint"):
  return Event(
      name=f"{name}CommandEvent",
      frame=frame,
      player=ME,
      location=(*where, 0),
      has_ability=bool(ability),
      ability_name=ability,
      target_unit_id=target,
  )


@pytest.fixture
def play(monkeypatch):
  """A game of events: its moments, and what was counted."""
  monkeypatch.setattr(replay_game, "Participant", types.SimpleNamespace)

  def run(*events, path=None):
    tracker = [e for e in events if e.name.startswith("Unit")]
    replay = types.SimpleNamespace(
        tracker_events=sorted(tracker, key=lambda e: e.frame),
        game_events=[e for e in events if e not in tracker],
        raw_data={"replay.initData": {"game_description": {"random_value": 5}}},
        map_hash="map",
        map_name="Map",
        release_string="1.2",
        players=[],
        teams=[
            Team(1, [ME, FRIEND]),
            Team(2, [FOE]),
        ],
    )
    monkeypatch.setattr(replay_game, "_load", lambda path: replay)
    game = replay_game.Game(path)
    return list(game.moments()), game.counts

  return run


class Team(list):

  def __init__(self, number, players):
    super().__init__(players)
    self.number = number


def value(moment, name, kind):
  """A feature of the only unit of a kind."""
  (row,) = [u for u in moment.units if u[0] == type_index(kind)]
  return row[REPLAY_UNITS.index(name)]


def kinds(moment):
  return [unit_features.type_name(row[0]) for row in moment.units]


def selected(moment):
  return [kind for kind, is_in in zip(kinds(moment), moment.selected) if is_in]  # noqa: B905


def test_a_moment_has_all_that_is_known_before_the_selection(play):
  (first, second), _ = play(
      born(10, "Marine", frame=16, x=53, y=46),
      born(20, "SCV", frame=32, x=40, y=50, name="UnitInitEvent"),
      born(30, "MineralField", owner=0, x=90, y=91),
      born(40, "BeaconArmy"),
      camera(),
      select(160, 10),
      select(192, 20),
  )
  assert (first.frame, first.player) == (160, 1)
  assert first.units.dtype == np.int16
  # Nearest to the camera first; what a beacon is, is no unit.
  expected = {
      "Marine": [1, 53, 46, 100, 0, 1, 0, 0, 3, -4, 5, 9, NEVER, NEVER],
      "SCV": [1, 40, 50, 0, 0, 1, 0, 0, -10, 0, 10, 8, NEVER, NEVER],
      "MineralField": [3, 90, 91, 100, 0, 0, 0, 0, 40, 41, 57, 10],
  }
  assert kinds(first) == list(expected)
  for row, known in zip(first.units, expected.values(), strict=True):
    assert row[1 : 1 + len(known)].tolist() == known
  assert selected(first) == ["Marine"] and selected(second) == ["SCV"]
  assert value(second, "is_selected", "Marine") == 1
  assert value(second, "since_selected", "Marine") == 32


def test_a_selection_of_what_is_selected_is_none(play):
  moments, _ = play(
      born(10, "Marine"),
      camera(),
      select(100, 10),
      select(120, 10),
      select(130, keep=[0]),
  )
  assert len(moments) == 1


def test_what_the_game_does_to_a_selection_is_no_moment(play):
  moments, _ = play(
      born(10, "Drone"),
      born(20, "Larva"),
      camera(),
      select(100, 10, 20),
      died(10, 110),
      select(110, keep=[0], mask="OneIndices"),
      changed(20, "Egg", 120),
      select(121, 20, keep=[0], mask="OneIndices"),
      born(30, "Zergling", frame=140),
      died(20, 140),
      select(141, 30, keep=[0], mask="OneIndices"),
      camera(150),
      select(200, keep=[]),
  )
  assert [m.frame for m in moments] == [100]


def test_masks_are_over_units_in_the_order_of_their_ids(play):
  ids = {30: "Marine", 10: "Ghost", 20: "Reaper", 40: "Thor"}
  alive = [born(id, kind) for id, kind in ids.items()]
  all_four = select(100, *ids)

  def after(*events):
    moments, _ = play(*alive, camera(), all_four, *events)
    return set(selected(moments[-1]))

  # Of Ghost, Reaper, Marine, Thor.
  assert after(select(120, keep=[1, 2])) == {"Reaper", "Marine"}
  # Who is added tells who was left: they are all selected.
  later = born(50, "Hellion", frame=60)
  one = select(120, 50, keep=[0, 3], mask="OneIndices")
  assert after(later, one) == {"Reaper", "Marine", "Hellion"}
  bits = select(120, 50, keep=[True, False, True], mask="Mask")
  assert after(later, bits) == {"Reaper", "Thor", "Hellion"}


def test_control_groups_are_followed(play):
  alive = [born(10, "Ghost"), born(20, "Reaper"), born(30, "Thor")]
  *_, last = play(
      *alive,
      camera(),
      select(100, 10),
      control("Set", 110, 4),
      select(120, 20),
      control("AddTo", 130, 4),
      control("Set", 140, 5),
      select(150, 30),
      control("Get", 160, 4, mask="OneIndices", data=[0]),
      select(170, 10),
  )[0]
  assert value(last, "groups", "Ghost") == 1 << 4
  assert value(last, "groups", "Reaper") == 1 << 4 | 1 << 5
  assert value(last, "groups", "Thor") == 0
  # The group without its first unit was selected, and before that the Thor.
  assert value(last, "is_selected", "Reaper") == 1
  assert value(last, "is_selected", "Ghost") == 0
  assert value(last, "was_selected", "Thor") == 1


def test_units_go_where_they_are_sent(play):
  before, after = play(
      born(10, "Marine", x=50, y=50),
      born(20, "Barracks", x=60, y=60),
      camera(),
      select(100, 10, 20),
      command(116, (50.0, 92.0), "Attack"),
      select(116 + round(21 / SPEED), 10),  # Half of the way.
      select(900, 20),
  )[0][1:]
  assert value(before, "y", "Marine") == pytest.approx(71, abs=1)
  assert value(after, "y", "Marine") == pytest.approx(92, abs=1)
  assert value(after, "x", "Marine") == 50
  assert value(after, "target_y", "Marine") == 92
  assert value(before, "y", "Barracks") == 60  # It sets where others go.
  order = unit_features.order_index("Attack")
  assert value(after, "order_id_0", "Marine") == order
  assert value(after, "since_order", "Marine") == 900 - 116


def test_a_unit_is_where_it_was_damaged(play):
  hurt = Event(name="UnitPositionsEvent", frame=500, positions=[(1, (7, 8))])
  last = play(born(10, "Marine"), camera(), hurt, select(600, 10))[0][-1]
  assert (value(last, "x", "Marine"), value(last, "y", "Marine")) == (7, 8)


def test_an_enemy_is_known_once_he_is_seen_and_as_he_was_then(play):
  moments, counts = play(
      born(10, "Marine"),
      born(20, "SCV"),
      born(30, "Roach", owner=2, x=90, y=91),
      born(40, "Zergling", owner=2, x=10, y=11),
      born(50, "Hydralisk", owner=2, x=20, y=21),
      born(60, "Zealot", owner=3, x=30, y=31),
      camera(),
      select(100, 10),
      command(110, (60.0, 61.0), target=30, name="TargetUnit"),
      changed(30, "RoachBurrowed", 150),
      select(200, 20),
      died(20, 210, killer=40, location=(44.0, 45.0)),
      select(220, 50),
      select(300, 10),
      died(40, 310),
      born(70, "Ghost", frame=320),
      select(400, 70),
  )
  first, second, third, fourth = moments
  assert set(kinds(first)) == {"Marine", "SCV", "Zealot"}
  assert value(first, "alliance", "Zealot") == unit_features.ALLY
  assert set(kinds(second)) == {"Marine", "SCV", "Zealot", "Roach"}
  assert value(second, "alliance", "Roach") == unit_features.ENEMY
  assert (value(second, "x", "Roach"), value(second, "y", "Roach")) == (60, 61)
  assert value(second, "age", "Roach") == 90 // 16
  assert value(third, "x", "Zergling") == 44  # It killed where it was.
  assert value(third, "x", "Hydralisk") == 20  # It was selected.
  assert "Zergling" not in kinds(fourth)
  assert counts["selections of others' units"] == 1


def test_observers_do_not_play(play):
  observer = object()
  moments, _ = play(
      born(10, "Marine"),
      camera(),
      camera(50, player=observer, location=(0.0, 0.0)),
      select(100, 10, player=observer),
      select(120, 10),
  )
  assert [m.frame for m in moments] == [120]
  assert value(moments[0], "screen_distance", "Marine") == 0


def test_of_too_many_units_the_nearest_are_kept_and_it_is_counted(play):
  many = [born(10 * i, "Zergling", x=50 + i // 4) for i in range(1, 600)]
  (near, far), counts = play(
      *many, camera(), select(100, 10), select(120, 20, 5990)
  )
  assert len(near.units) == len(far.units) == 512
  distance = near.units[:, REPLAY_UNITS.index("screen_distance")]
  assert (np.diff(distance) >= 0).all() and distance[-1] == 128
  assert far.selected.sum() == 1
  assert counts["moments with more than 512 units"] == 2
  _, counts = play(*many, camera(), select(100, 5990))
  assert counts["selections far from the camera"] == 1
  assert counts["moments"] == 0


def test_new_kinds_of_units_have_a_bucket_and_are_counted(play):
  (moment,), counts = play(
      born(10, "Marine"), born(20, "Marine2030"), camera(), select(100, 20)
  )
  assert counts["units of unlisted kinds"] == 1
  assert selected(moment) == ["unlisted"]
  index = moment.units[moment.selected][0, 0]
  assert len(unit_features.UNIT_TYPES) < index < unit_features.NUM_UNIT_TYPES
  known = [type_index(name) for name in unit_features.UNIT_TYPES]
  assert known == list(range(1, len(known) + 1))


def test_a_replay_without_tracker_events_is_of_no_use(play, tmp_path):
  with pytest.raises(replay_game.ReplayError, match="old.SC2Replay: without"):
    play(select(100, 10), path=tmp_path / "old.SC2Replay")


def test_numbers_of_commands_are_within_their_range():
  names = ["Attack", "Move", "TrainSCV", "a new one", "0x15c0"]
  found = [unit_features.order_index(name) for name in names]
  assert min(found) > 1 and max(found) < unit_features.NUM_ORDERS
  assert unit_features.order_index("") == 1
  assert found == [unit_features.order_index(name) for name in names]
