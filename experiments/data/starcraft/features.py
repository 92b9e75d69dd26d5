"""Names of the features of units, and of the types of units.

The columns of `RAW_UNITS` are those of PySC2's `raw_units`; the ones of
`REPLAY_UNITS` are what a replay tells without the game, under the same names
where they mean the same.

Source: PySC2 4.0.0, `features.FeatureUnit`; AlphaStar Unplugged's converter.
"""

import zlib

RAW_UNITS = tuple(
    "unit_type alliance health shield energy cargo_space_taken build_progress"
    " health_ratio shield_ratio energy_ratio display_type owner x y facing"
    " radius cloak is_selected is_blip is_powered mineral_contents"
    " vespene_contents cargo_space_max assigned_harvesters ideal_harvesters"
    " weapon_cooldown order_length order_id_0 order_id_1 tag hallucination"
    " buff_id_0 buff_id_1 addon_unit_type active is_on_screen order_progress_0"
    " order_progress_1 order_id_2 order_id_3 is_in_cargo buff_duration_remain"
    " buff_duration_max attack_upgrade_level armor_upgrade_level"
    " shield_upgrade_level".split()
)
# What the converter adds: whether the last action was of this unit, or at it.
CONVERTED_UNITS = (*RAW_UNITS, "was_selected", "was_target")
REPLAY_UNITS = (
    "unit_type",  # As `type_index`.
    "alliance",
    "x",  # cells, as last known
    "y",
    "build_progress",  # 0: under construction; 100: finished
    "is_selected",  # now
    "is_on_screen",
    "order_id_0",  # the last command, as `order_index`; 0: none yet
    # No columns of raw_units:
    "was_selected",  # in the selection before the one now
    "screen_x",  # cells to the right of the camera's centre
    "screen_y",  # cells above it
    "screen_distance",  # cells from it
    "age",  # game seconds since it is there
    "since_order",  # frames since its last command; NEVER
    "since_selected",  # frames since it was selected last; NEVER
    "groups",  # control groups that it is in, a bit each
    "target_x",  # cells; where it was sent last
    "target_y",
)
NEVER = 32767  # frames
SELF, ALLY, NEUTRAL, ENEMY = 1, 2, 3, 4  # The game's own numbers.

# Kinds of units, by the names that replays give them. New ones go to the end.
UNIT_TYPES = tuple(
    # Terran
    "SCV MULE Marine Marauder Reaper Ghost GhostAlternate Hellion HellionTank"
    " WidowMine WidowMineBurrowed SiegeTank SiegeTankSieged Cyclone Thor ThorAP"
    " VikingFighter VikingAssault Medivac Liberator LiberatorAG Banshee Raven"
    " Battlecruiser AutoTurret PointDefenseDrone KD8Charge Nuke"
    " CommandCenter CommandCenterFlying OrbitalCommand OrbitalCommandFlying"
    " PlanetaryFortress SupplyDepot SupplyDepotLowered Refinery RefineryRich"
    " Barracks BarracksFlying BarracksTechLab BarracksReactor Factory"
    " FactoryFlying FactoryTechLab FactoryReactor Starport StarportFlying"
    " StarportTechLab StarportReactor TechLab Reactor EngineeringBay Armory"
    " Bunker MissileTurret SensorTower GhostAcademy FusionCore"
    # Protoss
    " Probe Zealot Stalker Sentry Adept AdeptPhaseShift HighTemplar DarkTemplar"
    " Archon Immortal Colossus Disruptor DisruptorPhased Observer"
    " ObserverSiegeMode WarpPrism WarpPrismPhasing Phoenix VoidRay Oracle"
    " OracleStasisTrap Tempest Carrier Interceptor MothershipCore Mothership"
    " Nexus Pylon PylonOvercharged Assimilator AssimilatorRich Gateway WarpGate"
    " CyberneticsCore Forge PhotonCannon ShieldBattery TwilightCouncil"
    " TemplarArchive DarkShrine RoboticsFacility RoboticsBay Stargate"
    " FleetBeacon ForceField"
    # Zerg
    " Larva Egg Drone DroneBurrowed Overlord OverlordCocoon Overseer"
    " OverseerSiegeMode OverlordTransport TransportOverlordCocoon Zergling"
    " ZerglingBurrowed BanelingCocoon Baneling BanelingBurrowed Queen"
    " QueenBurrowed Roach RoachBurrowed RavagerCocoon Ravager RavagerBurrowed"
    " Hydralisk HydraliskBurrowed LurkerMPEgg LurkerMP LurkerMPBurrowed"
    " Infestor InfestorBurrowed InfestedTerransEgg InfestorTerran SwarmHostMP"
    " SwarmHostBurrowedMP LocustMP LocustMPFlying Mutalisk Corruptor"
    " BroodLordCocoon BroodLord Broodling BroodlingEscort Viper Ultralisk"
    " UltraliskBurrowed Changeling ChangelingZealot ChangelingMarineShield"
    " ChangelingMarine ChangelingZerglingWings ChangelingZergling"
    " Hatchery Lair Hive Extractor ExtractorRich SpawningPool EvolutionChamber"
    " RoachWarren BanelingNest SpineCrawler SpineCrawlerUprooted SporeCrawler"
    " SporeCrawlerUprooted HydraliskDen LurkerDenMP InfestationPit"
    " UltraliskCavern Spire GreaterSpire NydusNetwork NydusCanal CreepTumor"
    " CreepTumorQueen CreepTumorBurrowed"
    # Nobody's
    " MineralField MineralField450 MineralField750 MineralFieldOpaque"
    " MineralFieldOpaque900 RichMineralField RichMineralField750"
    " LabMineralField LabMineralField750 PurifierMineralField"
    " PurifierMineralField750 PurifierRichMineralField"
    " PurifierRichMineralField750 BattleStationMineralField"
    " BattleStationMineralField750 VespeneGeyser RichVespeneGeyser"
    " SpacePlatformGeyser ProtossVespeneGeyser ShakurasVespeneGeyser"
    " PurifierVespeneGeyser XelNagaTower".split()
)
_TYPE_BUCKETS = 16  # Of kinds that are not listed.
_INDEX = {name: i + 1 for i, name in enumerate(UNIT_TYPES)}
NUM_UNIT_TYPES = 1 + len(UNIT_TYPES) + _TYPE_BUCKETS  # 0: an empty slot.
_ORDER_BUCKETS = 62
NUM_ORDERS = 2 + _ORDER_BUCKETS  # 0: none; 1: a click with the right button.

# What stays where it is: being sent somewhere sets its rally point.
_BUILDINGS = frozenset(
    "CommandCenter OrbitalCommand PlanetaryFortress SupplyDepot"
    " SupplyDepotLowered Refinery RefineryRich Barracks BarracksTechLab"
    " BarracksReactor Factory FactoryTechLab FactoryReactor Starport"
    " StarportTechLab StarportReactor TechLab Reactor EngineeringBay Armory"
    " Bunker MissileTurret SensorTower GhostAcademy FusionCore AutoTurret"
    " Nexus Pylon PylonOvercharged Assimilator AssimilatorRich Gateway WarpGate"
    " CyberneticsCore Forge PhotonCannon ShieldBattery TwilightCouncil"
    " TemplarArchive DarkShrine RoboticsFacility RoboticsBay Stargate"
    " FleetBeacon OracleStasisTrap Larva Egg Hatchery Lair Hive Extractor"
    " ExtractorRich SpawningPool EvolutionChamber RoachWarren BanelingNest"
    " SpineCrawler SporeCrawler HydraliskDen LurkerDenMP InfestationPit"
    " UltraliskCavern Spire GreaterSpire NydusNetwork NydusCanal CreepTumor"
    " CreepTumorQueen CreepTumorBurrowed SiegeTankSieged WidowMineBurrowed"
    " LiberatorAG".split()
)


def type_index(name: str) -> int:
  """The index of a unit type; unlisted types have one by their hash.

  It is from 1 to `NUM_UNIT_TYPES`.
  """
  known = _INDEX.get(name)
  if known:
    return known
  return 1 + len(UNIT_TYPES) + zlib.crc32(name.encode()) % _TYPE_BUCKETS


def type_name(index: int) -> str:
  """The printed name of a unit type."""
  if 0 < index <= len(UNIT_TYPES):
    return UNIT_TYPES[index - 1]
  return "unlisted" if index else "empty"


def is_listed(name: str) -> bool:
  """Whether a kind of unit has a number of its own."""
  return name in _INDEX


def can_move(name: str) -> bool:
  """Whether a unit goes where it is sent."""
  return name not in _BUILDINGS


def order_index(ability: str) -> int:
  """The number of a command, from 1; "" is a click with the right button.

  Commands have other numbers in every version of the game, so it is that of
  their names' hash.
  """
  if not ability:
    return 1
  return 2 + zlib.crc32(ability.encode()) % _ORDER_BUCKETS
