"""The units of a game of StarCraft II, from the events of a replay."""

import collections
import dataclasses

from experiments.data.starcraft import features

SPEED = 2.8 / 16  # cells a frame, of most units without upgrades


@dataclasses.dataclass
class Unit:
  """The known state of a unit."""

  id: int
  kind: str
  owner: int  # 0: nobody
  x: float  # cells; where it was last known to be
  y: float
  born: int  # frame
  is_done: bool
  changed: int = 0  # frame of its birth or of its last change of kind
  order: int = 0
  ordered: int | None = None  # frame
  target: tuple[float, float] | None = None  # Where it was sent last.
  sent: int = 0  # frame

  def at(self, frame: int) -> tuple[float, float]:
    """Where it probably is."""
    if self.target is None:
      return self.x, self.y
    dx, dy = self.target[0] - self.x, self.target[1] - self.y
    distance = max((dx**2 + dy**2) ** 0.5, 1e-6)
    part = min(1.0, SPEED * (frame - self.sent) / distance)
    return self.x + part * dx, self.y + part * dy

  def place(self, x: float, y: float, frame: int) -> None:
    """Notes where it is, from where it continues."""
    self.x, self.y, self.sent = x, y, frame

  def send(self, x: float, y: float, frame: int) -> None:
    """Notes where it goes."""
    now_x, now_y = self.at(frame)
    self.place(now_x, now_y, frame)
    self.target = x, y


class World:
  """All units that are alive, event after event."""

  def __init__(self):
    self.units: dict[int, Unit] = {}
    self.counts: collections.Counter[str] = collections.Counter()
    self._by_index: dict[int, int] = {}

  def on_UnitBornEvent(self, event) -> None:
    """A unit comes to be, or begins to be built."""
    if event.unit_type_name.startswith("Beacon"):  # They are no units.
      return
    self.units[event.unit_id] = Unit(
        id=event.unit_id,
        kind=event.unit_type_name,
        owner=event.control_pid,
        x=event.x,
        y=event.y,
        born=event.frame,
        is_done=event.name == "UnitBornEvent",
        changed=event.frame,
    )
    self._by_index[event.unit_id_index] = event.unit_id
    if not features.is_listed(event.unit_type_name):
      self.counts["units of unlisted kinds"] += 1

  on_UnitInitEvent = on_UnitBornEvent

  def on_UnitDoneEvent(self, event) -> None:
    """A unit is built."""
    unit = self.units.get(event.unit_id)
    if unit is not None:
      unit.is_done = True

  def on_UnitTypeChangeEvent(self, event) -> None:
    """A unit becomes another kind."""
    unit = self.units.get(event.unit_id)
    if unit is not None:
      unit.kind, unit.changed = event.unit_type_name, event.frame

  def on_UnitOwnerChangeEvent(self, event) -> None:
    """A unit is another player's."""
    unit = self.units.get(event.unit_id)
    if unit is not None:
      unit.owner = event.control_pid

  def on_UnitDiedEvent(self, event) -> None:
    """A unit is there no longer."""
    self.units.pop(event.unit_id, None)

  def on_UnitPositionsEvent(self, event) -> None:
    """Units were damaged, and are here."""
    for index, (x, y) in event.positions:
      unit = self.units.get(self._by_index.get(index, -1))
      if unit is not None:
        unit.place(x, y, event.frame)
