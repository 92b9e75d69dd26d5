"""Selections of units by players in a replay of StarCraft II.

A replay holds what people did and, since 2.0.8, when and where units were born,
changed and died; the game itself is not there to ask for more. So:

* Where units are is known when they are born, when they are damaged (every 10
  to 15 seconds), when a command is aimed at them, and when they die. In between
  they are taken to go straight to where they were sent. Of single
  units that are selected, 80 % are then on the screen, and of buildings 98 %.
* Health, shields, energy, cargo, weapons, buffs, upgrades, what is produced and
  what is visible are not known.
* A player knows all units of his own, of allies and of nobody, and of the
  enemy's those that he has selected, aimed a command at or lost a unit to, as
  they were then. They are gone when they die, even if he could not see that.
* A selection that only loses units, or gains some that have just come to be, is
  the game's doing and no moment.

Source: what sc2reader reads; checked against the replays of its test suite.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import heapq
import pathlib
from typing import Any

import numpy as np
from sc2reader.exceptions import CorruptTrackerFileError
from sc2reader.factories import SC2Factory
from sc2reader.objects import Participant

from experiments.data.errors import DataError
from experiments.data.starcraft import features
from experiments.data.starcraft.features import ALLY
from experiments.data.starcraft.features import ENEMY
from experiments.data.starcraft.features import NEUTRAL
from experiments.data.starcraft.features import NEVER
from experiments.data.starcraft.features import SELF
from experiments.data.starcraft.world import Unit
from experiments.data.starcraft.world import World

MAX_UNITS = 512
ACTIVE = 10  # The number of what is selected among control groups.
_FRESH = 5  # frames
# Cells of the screen around what the camera looks at, as AlphaStar Unplugged's.
_LEFT, _RIGHT, _ABOVE, _BELOW = 16, 16, 13, 7
_MOVES = frozenset(("", "Attack", "Move", "ScanMove", "Patrol"))


class ReplayError(DataError):
  """An unusable replay; `kind` is the kind of the reason."""

  def __init__(self, file: str, kind: str, why: str = ""):
    super().__init__(file, kind, why)  # From which it is pickled.
    self.kind = kind

  def __str__(self) -> str:
    file, kind, why = self.args
    return f"{file}: {kind}" + (f" ({why})" if why else "")


@dataclasses.dataclass
class Hand:
  """The selection and groups of a player, and the known enemies."""

  camera: tuple[float, float] | None = None  # cells; what it looks at
  # By number of the control group, units in the order that masks go by.
  groups: dict[int, list[int]] = dataclasses.field(
      default_factory=lambda: collections.defaultdict(list)
  )
  before: frozenset[int] = frozenset()  # What was selected before that.
  selected: dict[int, int] = dataclasses.field(default_factory=dict)  # frames
  # Of the enemy's units: how they were, and when.
  seen: dict[int, tuple[int, Unit]] = dataclasses.field(default_factory=dict)
  ability: str = ""  # The last command.


@dataclasses.dataclass(frozen=True)
class Moment:
  """A selection, and the units at that time, nearest to the camera first."""

  frame: int
  player: int
  units: np.ndarray  # int16 [units, REPLAY_UNITS], at most MAX_UNITS
  selected: np.ndarray  # bool [units]


class Game:
  """A replay's events, one after another."""

  def __init__(self, path: pathlib.Path):
    """Reads a replay.

    Raises:
      ReplayError: if it cannot be read, or does not tell what units there are.
    """
    with reading(path):
      self._open(path)
    self._world = World()
    self.counts = self._world.counts  # Of what is left out, or not known.
    self._units = self._world.units
    self._hands: dict[int, Hand] = collections.defaultdict(Hand)

  def _open(self, path: pathlib.Path) -> None:
    self._replay = replay = _load(path)
    if not replay.tracker_events:
      raise ReplayError(path.name, "without tracker events")
    description = replay.raw_data["replay.initData"]["game_description"]
    # The same in all players' replays of a game.
    self.key = f"{replay.map_hash}-{description['random_value']}"
    self.description = {
        "map": replay.map_name,
        "version": replay.release_string,
        "races": {player.pid: player.play_race for player in replay.players},
    }
    self._teams = {
        player.pid: team.number for team in replay.teams for player in team
    }

  def moments(self) -> Iterator[Moment]:
    """All selections of all human players; omitted ones are counted."""
    replay = self._replay
    events = heapq.merge(
        replay.tracker_events, replay.game_events, key=lambda e: e.frame
    )
    for event in events:
      if event.name == "UnitDiedEvent":
        self._see_killer(event)
      in_world = getattr(self._world, f"on_{event.name}", None)
      by_player = getattr(self, f"_on_{event.name}", None)
      if in_world is not None:
        in_world(event)
      # Observers have cameras and select, too.
      elif by_player and isinstance(event.player, Participant):
        player = event.player.pid
        moment = by_player(event, player, self._hands[player])
        if moment is not None:
          yield moment

  # What players do.

  def _on_CameraEvent(self, event, player: int, hand: Hand) -> None:
    hand.camera = event.location

  def _on_BasicCommandEvent(self, event, player: int, hand: Hand) -> None:
    target = getattr(event, "location", (0.0, 0.0))[:2]
    is_update = event.name.startswith("Update")
    if not is_update:
      hand.ability = event.ability_name if event.has_ability else ""
    unit = self._units.get(getattr(event, "target_unit_id", None) or -1)
    if unit is not None and any(target):
      if self._relation(unit, player) == ENEMY:
        self._see(hand, unit, event.frame, target)
      else:
        unit.place(target[0], target[1], event.frame)
    for each in self._alive(hand.groups[ACTIVE], player):
      each.order = features.order_index(hand.ability)
      each.ordered = event.frame
      is_move = hand.ability in _MOVES and any(target)
      if is_move and features.can_move(each.kind):
        each.send(target[0], target[1], event.frame)

  _on_TargetPointCommandEvent = _on_BasicCommandEvent
  _on_TargetUnitCommandEvent = _on_BasicCommandEvent
  _on_UpdateTargetPointCommandEvent = _on_BasicCommandEvent
  _on_UpdateTargetUnitCommandEvent = _on_BasicCommandEvent
  _on_DataCommandEvent = _on_BasicCommandEvent

  def _on_CommandManagerStateEvent(self, event, player, hand) -> None:
    for unit in self._alive(hand.groups[ACTIVE], player):
      unit.ordered = event.frame  # The last command again.

  def _on_SetControlGroupEvent(self, event, player, hand) -> None:
    hand.groups[event.control_group] = list(hand.groups[ACTIVE])

  def _on_AddToControlGroupEvent(self, event, player, hand) -> None:
    kept = _kept(hand.groups[event.control_group], event)
    hand.groups[event.control_group] = sorted({*kept, *hand.groups[ACTIVE]})

  def _on_DeleteControlGroupEvent(self, event, player, hand) -> None:
    hand.groups[event.control_group] = []

  def _on_GetControlGroupEvent(self, event, player, hand) -> None:
    group = _kept(hand.groups[event.control_group], event)
    self._select(hand, group, event.frame)

  def _on_SelectionEvent(self, event, player: int, hand: Hand) -> Moment | None:
    kept = _kept(hand.groups[event.control_group], event)
    group = sorted({*kept, *event.new_unit_ids})
    if event.control_group != ACTIVE:
      hand.groups[event.control_group] = group
      return None
    moment = self._moment(event, player, hand, group)
    for id in group:
      unit = self._units.get(id)
      if unit is not None and self._relation(unit, player) == ENEMY:
        self._see(hand, unit, event.frame, unit.at(event.frame))
    self._select(hand, group, event.frame)
    return moment

  # What follows from it.

  def _see_killer(self, event) -> None:
    unit = self._units.get(event.unit_id)
    killer = self._units.get(event.killing_unit_id or -1)
    if unit is None or killer is None or unit.owner not in self._teams:
      return
    if self._relation(killer, unit.owner) == ENEMY:  # It is near, and seen.
      hand = self._hands[unit.owner]
      self._see(hand, killer, event.frame, event.location)

  def _select(self, hand: Hand, group: list[int], frame: int) -> None:
    now = hand.groups[ACTIVE]
    if now and set(now) != set(group):
      hand.before = frozenset(now)
    hand.selected.update((id, frame) for id in {*now, *group})
    hand.groups[ACTIVE] = group

  def _see(self, hand: Hand, unit: Unit, frame: int, place) -> None:
    seen = dataclasses.replace(unit, target=None)
    seen.place(place[0], place[1], frame)
    hand.seen[unit.id] = frame, seen

  def _alive(self, ids: Iterable[int], player: int) -> Iterator[Unit]:
    for id in ids:
      unit = self._units.get(id)
      if unit is not None and unit.owner == player:
        yield unit

  def _relation(self, unit: Unit, player: int) -> int:
    if unit.owner == player:
      return SELF
    if unit.owner not in self._teams:
      return NEUTRAL
    same = self._teams[unit.owner] == self._teams.get(player)
    return ALLY if same else ENEMY

  def _moment(self, event, player, hand, group) -> Moment | None:
    """The moment before this selection, if a person made it."""
    chosen = {unit.id for unit in self._alive(group, player)}
    now = {unit.id for unit in self._alive(hand.groups[ACTIVE], player)}
    added = [self._units[id] for id in chosen - now]
    by_game = all(event.frame - unit.changed <= _FRESH for unit in added)
    if added and by_game or not added and event.mask_type != "ZeroIndices":
      return None
    others = [id for id in group if id in self._units and id not in chosen]
    if others:
      self.counts["selections of others' units"] += 1
      return None
    if not chosen or chosen == now:
      return None
    rows, ids = self._rows(event.frame, player, hand)
    selected = np.isin(ids, list(chosen))
    if len(rows) > MAX_UNITS:
      self.counts[f"moments with more than {MAX_UNITS} units"] += 1
      rows, selected = rows[:MAX_UNITS], selected[:MAX_UNITS]
    if not selected.any():
      self.counts["selections far from the camera"] += 1
      return None
    self.counts["moments"] += 1
    return Moment(event.frame, player, rows, selected)

  def _rows(
      self, frame: int, player: int, hand: Hand
  ) -> tuple[np.ndarray, np.ndarray]:
    """Features of all known units, nearest first, and their ids."""
    rows, ids = [], []
    camera = hand.camera or _middle(
        [u.at(frame) for u in self._units.values() if u.owner == player]
    )
    now = frozenset(hand.groups[ACTIVE])
    groups = collections.Counter()
    for number in range(ACTIVE):
      for id in set(hand.groups.get(number, ())):
        groups[id] |= 1 << number
    for id, unit in self._units.items():
      relation, since = self._relation(unit, player), unit.born
      if relation == ENEMY:
        if id not in hand.seen:
          continue
        since, unit = hand.seen[id]
      x, y = unit.at(frame)
      dx, dy = x - camera[0], y - camera[1]
      is_own = relation == SELF
      target = is_own and unit.target or (0.0, 0.0)
      rows.append(
          (
              features.type_index(unit.kind),
              relation,
              x,
              y,
              100 * unit.is_done,
              id in now,
              -_LEFT <= dx <= _RIGHT and -_BELOW <= dy <= _ABOVE,
              is_own * unit.order,
              id in hand.before,
              dx,
              dy,
              (dx**2 + dy**2) ** 0.5,
              (frame - since) / 16,
              frame - unit.ordered if is_own and unit.ordered else NEVER,
              frame - hand.selected.get(id, frame - NEVER),
              groups[id],
              *target,
          )
      )
      ids.append(id)
    table = np.array(rows, np.float64).reshape(-1, len(_COLUMNS))
    ids = np.array(ids, np.int64)
    order = np.lexsort((ids, table[:, _DISTANCE]))
    table = np.clip(np.floor(table), -NEVER - 1, NEVER).astype(np.int16)
    return table[order], ids[order]


_COLUMNS = features.REPLAY_UNITS
_DISTANCE = _COLUMNS.index("screen_distance")


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
  """Turns any error of reading a replay into a `ReplayError`."""
  try:
    yield
  except CorruptTrackerFileError as error:
    raise ReplayError(path.name, "resumed from another game") from error
  except (MemoryError, ReplayError):
    raise
  # What a damaged file does to a parser may be anything.
  except Exception as error:
    if isinstance(error, OSError) and error.errno:
      raise  # It is the disk and not the file.
    why = f"{type(error).__name__}: {error}"[:200]
    raise ReplayError(path.name, "damaged or unsupported", why) from error


def _load(path: pathlib.Path) -> Any:
  return SC2Factory().load_replay(str(path), load_level=4)


def _kept(group: list[int], event) -> list[int]:
  """The remaining units of a group, in the order of their ids."""
  group = sorted(group)
  if event.mask_type == "Mask":
    removed = {id for id, bit in zip(group, event.mask_data) if bit}  # noqa: B905
  elif event.mask_type == "OneIndices":
    removed = {group[i] for i in event.mask_data if i < len(group)}
  elif event.mask_type == "ZeroIndices":
    stay = {group[i] for i in event.mask_data if i < len(group)}
    removed = set(group) - stay
  else:
    removed = set()
  return [id for id in group if id not in removed]


def _middle(places: list[tuple[float, float]]) -> tuple[float, float]:
  if not places:
    return 0.0, 0.0
  x, y = np.mean(places, axis=0)
  return float(x), float(y)
