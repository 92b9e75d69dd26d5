"""Prediction of players' selections of units in StarCraft II.

An encoder reads all units; a pointer network over what it says of each picks
those that a person selected next.

Source: Perceiver IO, appendix B. The agent around it, AlphaStar, plays the
game, which is not there to be played: what is learned here is one of its
actions' arguments, from replays.
"""

import collections
from collections.abc import Mapping
import functools
import pathlib
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib import colors
import numpy as np

from experiments.data import pipeline
from experiments.data.starcraft import replays
from experiments.data.starcraft.features import CONVERTED_UNITS
from experiments.data.starcraft.features import ENEMY
from experiments.data.starcraft.features import NEUTRAL
from experiments.data.starcraft.features import REPLAY_UNITS
from experiments.data.starcraft.features import SELF
from experiments.engine import figures
from experiments.engine.choose import choose
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights
from experiments.inference import commands
from experiments.inference import selections
from experiments.task import Batch
from experiments.task import Eval
from experiments.task import Network
from experiments.task import Outputs
from experiments.task import Prediction
from experiments.task import Task
from perceiver import Decoder
from perceiver import Encoder
from perceiver import Processor
from perceiver import starcraft
from perceiver.baselines import Transformer
from perceiver.starcraft import Bits
from perceiver.starcraft import OneHot
from perceiver.starcraft import Scaled

FRAMES_PER_SECOND = 16  # Of the game's clock.
COLUMNS = {"starcraft2": REPLAY_UNITS, "starcraft2_raw": CONVERTED_UNITS}

_BOOL = (OneHot(2),)
_KIND = (OneHot(256),)  # The converter's kinds of units fit into a byte.
_ORDER = (OneHot(600),)  # PySC2 has 573 of them.
_UPGRADES = (OneHot(5),)
_FRAMES = (OneHot(65, power=0.4),)  # Up to 32767.
_CELLS = (Scaled(16.0), OneHot(33, divide=2, offset=16))
# How features are given to the network: AlphaStar's code where PySC2 has them.
# Its attributes of kinds of units, and what is mined already, need the game's
# tables and are not there.
CODES = {
    "unit_type": _KIND,
    "alliance": (OneHot(5),),
    "health": (OneHot(39, power=0.5),),  # Up to 1500.
    "shield": (OneHot(32, power=0.5),),  # Up to 1000.
    "energy": (OneHot(15, power=0.5),),  # Up to 200.
    "cargo_space_taken": (OneHot(9),),
    "build_progress": (Scaled(100.0),),
    "health_ratio": (Scaled(255.0),),
    "shield_ratio": (Scaled(255.0),),
    "energy_ratio": (Scaled(255.0),),
    "display_type": (OneHot(5),),
    "x": (Bits(8),),
    "y": (Bits(8),),
    "cloak": (OneHot(5),),
    "is_selected": _BOOL,
    "is_blip": _BOOL,
    "is_powered": _BOOL,
    "mineral_contents": (OneHot(19, divide=100),),
    "vespene_contents": (OneHot(26, divide=100),),
    "cargo_space_max": (OneHot(9),),
    "assigned_harvesters": (OneHot(25),),
    "ideal_harvesters": (OneHot(17),),
    "weapon_cooldown": (OneHot(33),),
    "order_length": (OneHot(9),),
    "order_id_0": _ORDER,
    "order_id_1": _ORDER,
    "order_id_2": _ORDER,
    "order_id_3": _ORDER,
    "hallucination": _BOOL,
    "buff_id_0": (OneHot(64),),
    "buff_id_1": (OneHot(64),),
    "addon_unit_type": _KIND,
    "active": _BOOL,
    "is_on_screen": _BOOL,
    "order_progress_0": (Scaled(100.0), OneHot(11, divide=10)),
    "order_progress_1": (Scaled(100.0), OneHot(11, divide=10)),
    "is_in_cargo": _BOOL,
    "buff_duration_remain": (OneHot(16, power=0.5),),  # Up to 250.
    "attack_upgrade_level": _UPGRADES,
    "armor_upgrade_level": _UPGRADES,
    "shield_upgrade_level": _UPGRADES,
    "was_selected": _BOOL,
    "was_target": _BOOL,
    # Ours, of replays.
    "screen_x": _CELLS,
    "screen_y": _CELLS,
    "screen_distance": (Scaled(16.0), OneHot(17, power=0.5)),
    "age": (OneHot(51, power=0.5),),  # Up to 2500 seconds.
    "since_order": _FRAMES,
    "since_selected": _FRAMES,
    "groups": (Bits(10),),
    "target_x": (Bits(8),),
    "target_y": (Bits(8),),
}
# Actions are for the units that are selected: this would tell the answer.
TELLING = {"starcraft2_raw": ("is_selected",)}


def perceiver_io(
    x,
    mask,
    /,
    encoder: Annotated[Mapping[str, Any], Encoder],
    processor: Annotated[Mapping[str, Any], Processor],
    decoder: Annotated[Mapping[str, Any], Decoder],
):
  """Perceiver IO as an encoder of units, whose queries are the units."""
  z = Encoder(**encoder)(x, mask)  # [B, N, D]
  z = Processor(**processor)(z)
  return Decoder(**decoder)(x, z, mask)  # [B, O=M, E]


def transformer(
    x,
    mask,
    /,
    num_layers: int,
    num_heads: int,
    widening_factor: int = 4,
    remat: bool = False,
):
  """AlphaStar's entity encoder, a Transformer."""
  layers = Transformer(num_layers, num_heads, widening_factor, remat)
  return layers(x, mask)


ENCODERS = (perceiver_io, transformer)
SETTINGS = {"model.encode": ENCODERS, "model.pointer": starcraft.pointer}


def network(config) -> Network:
  """The model: from units to embeddings and picks."""
  columns = columns_of(config.dataset)
  telling = TELLING.get(config.dataset, ())
  codes = {
      name: code
      for name, code in CODES.items()
      if name in columns and name not in telling
  }
  model = config.model
  encode = choose(ENCODERS, model.encode)

  def forward(batch, is_training):
    units = batch["units"]
    mask = column(units, columns, "alliance") != 0
    x = starcraft.units(units, columns, codes, model.channels)  # [B, M, C]
    x = jnp.where(mask[..., None], x, 0)
    y = encode(x, mask)
    each, whole = starcraft.entities(y, mask, model.output_channels)
    free = selectable(units, columns)
    pointer = starcraft.pointer(whole, each, free, **model.pointer)
    outputs = {"entity_embeddings": each, "embedded_entity": whole}
    if "picks" in batch:  # The steps of what was selected.
      outputs["log_probs"] = pointer.log_probs(batch["picks"])
    if not is_training:
      picks = pointer.pick(config.max_picks)
      outputs["picks"] = picks
      outputs["probability"] = probability(pointer.log_probs(picks), picks)
    return outputs

  shape = (config.num_units, len(columns))
  return Network({"units": jax.ShapeDtypeStruct(shape, jnp.int32)}, forward)


def task(config) -> Task:
  """Builds the task from its config."""
  model = network(config)
  columns = columns_of(config.dataset)
  read = functools.partial(
      pipeline.source, config.dataset, data_dir=config.data_dir
  )
  step = padding_of(config)
  picks = jax.ShapeDtypeStruct((config.max_picks,), jnp.int32)

  @functools.cache
  def rank():
    return ranks(read("train"), columns)

  def evaluation(shard):
    majority = functools.partial(with_majority, columns=columns, rank=rank())
    return pipeline.evaluation(
        read("validation"),
        [step, majority],
        batch_size=config.batch_size,
        shard=shard,
    )

  return Task(
      example={**model.example, "picks": picks},
      train_data=lambda shard: pipeline.train(
          read("train"),
          [step],
          batch_size=config.batch_size,
          seed=config.seed,
          shard=shard,
          num_workers=config.num_workers,
      ),
      forward=model.forward,
      loss=loss,
      evals={
          "validation": Eval(
              evaluation,
              functools.partial(measure, columns=columns),
              summarize,
              functools.partial(draw, columns=columns),
          )
      },
  )


def likelihood(outputs, batch):
  """The log-likelihood and the number of units of each selection."""
  picks, num_units = batch["picks"], batch["units"].shape[1]
  value = starcraft.log_likelihood(outputs["log_probs"], picks)
  return value, (picks < num_units).sum(-1)


def loss(outputs, batch):
  """Nats for each selected unit: a mean over selections."""
  value, count = likelihood(outputs, batch)
  return -(value / count).mean(), {}


def measure(outputs, batch, columns):
  """Metrics of each selection, for the model and baselines.

  The baselines are the current and the previous selection and, where a batch
  has it, the most frequently selected type ("majority").
  """
  value, count = likelihood(outputs, batch)
  units, picks = batch["units"], batch["picks"]
  num_units = units.shape[1]
  truth = starcraft.picked(picks, num_units)
  own = selectable(units, columns)
  found = {
      "": starcraft.picked(outputs["picks"], num_units),
      "_current": own & (column(units, columns, "is_selected") > 0),
      "_previous": own & (column(units, columns, "was_selected") > 0),
  }
  if "majority" in batch:
    found["_majority"] = batch["majority"]
  measured = {
      "log_likelihood": value,
      "log_likelihood_uniform": uniform_log_likelihood(
          own.sum(-1), count, picks
      ),
      "selected": count,
      "loss": -value / count,
  }
  for name, selected in found.items():
    measured[f"exact{name}"] = 100.0 * (selected == truth).all(-1)
    union = (selected | truth).sum(-1)
    measured[f"iou{name}"] = 100.0 * (selected & truth).sum(-1) / union
  return measured


def padding_of(config) -> pipeline.Step:
  """The step `padded` with a config's sizes."""
  return functools.partial(
      padded,
      columns=columns_of(config.dataset),
      num_units=config.num_units,
      max_picks=config.max_picks,
  )


def columns_of(dataset: str) -> tuple[str, ...]:
  """The names of a data set's features of units."""
  if dataset not in COLUMNS:
    raise KeyError(f"{dataset!r} is not one of {sorted(COLUMNS)}")
  return COLUMNS[dataset]


def column(units, columns, name):
  """One feature of all units, [...]."""
  return units[..., columns.index(name)]


def selectable(units, columns):
  """True at units that the player may select, [...]."""
  own = column(units, columns, "alliance") == SELF
  if "tag" in columns:  # Effects have none, and what is inside cannot be.
    own &= column(units, columns, "tag") > 0
    own &= column(units, columns, "is_in_cargo") == 0
  return own


def probability(log_probs, picks):
  """The probability of each unit, given the other picks, [B, M]."""
  probs = jnp.exp(log_probs)  # [B, K, M+1]
  end = probs.shape[-1] - 1
  before = jnp.pad(picks, [(0, 0), (1, 0)])[:, :-1]
  goes_on = jnp.where(before == end, 0.0, 1 - probs[..., end])
  # Whoever picks at a step has not ended before it.
  reached = jnp.pad(goes_on, [(0, 0), (1, 0)], constant_values=1)[:, :-1]
  reached = jnp.cumprod(reached, axis=1) * (before != end)
  chance = probs[..., :end]
  missed = jnp.pad(1 - chance, [(0, 0), (1, 0), (0, 0)], constant_values=1)
  left = jnp.cumprod(missed[:, :-1], axis=1)
  return (reached[..., None] * left * chance).sum(1)


def uniform_log_likelihood(num_units, count, picks):
  """The log-likelihood of picks by a uniform distribution."""
  steps = jnp.arange(picks.shape[1])
  left = num_units[:, None] - steps + (steps > 0)
  real = steps < count[:, None] + 1
  return -jnp.where(real, jnp.log(jnp.maximum(left, 1)), 0).sum(-1)


def summarize(measured: Mapping[str, np.ndarray]) -> dict[str, float]:
  """Log-likelihoods per selected unit, and means of all other metrics."""
  sums = {
      name: float(np.sum(values, dtype=np.float64))
      for name, values in measured.items()
  }
  return {
      name: value
      / (sums["selected"] if "likelihood" in name else len(measured[name]))
      for name, value in sums.items()
  }


def padded(example, columns, num_units, max_picks):
  """Units padded to a fixed number, and the selected ones, nearest first.

  If there are too many units, the player's own are kept, then the nearest. If
  too many were selected, the nearest count.
  """
  units, selected = example["units"], example["selected"]
  others = column(units, columns, "alliance") != SELF
  kept = np.sort(np.argsort(others, kind="stable")[:num_units])
  if not selected[kept].any():  # More own units than slots.
    kept[-1] = np.flatnonzero(selected)[0]
  rows = np.zeros((num_units, len(columns)), np.int32)
  rows[: len(kept)] = units[kept]
  picks = np.full(max_picks, num_units, np.int32)
  slots = np.flatnonzero(selected[kept])[:max_picks]
  picks[: len(slots)] = slots
  return {"units": rows, "picks": picks}


def ranks(source: Any, columns, examples: int = 4000) -> dict[int, int]:
  """The frequencies of unit types in selections of one type."""
  counts: collections.Counter[int] = collections.Counter()
  for i in range(min(len(source), examples)):
    units, selected = source[i]["units"], source[i]["selected"]
    kinds = np.unique(column(units, columns, "unit_type")[selected])
    if len(kinds) == 1:
      counts[int(kinds[0])] += 1
  return dict(counts)


def with_majority(example, columns, rank):
  """An example with the "majority" baseline: all units of one type.

  It is the type that people select most often among those that the player has.
  """
  units = example["units"]
  own = selectable(units, columns)
  kinds = column(units, columns, "unit_type")
  best = max(np.unique(kinds[own]), key=lambda kind: rank.get(int(kind), 0))
  return {**example, "majority": own & (kinds == best)}


def draw(outputs, batch, columns):
  """The first 16 moments with true and predicted selections."""
  scale = figures.Scale(
      "probability to be selected (square-root scale)",
      colors.PowerNorm(0.5, 0.0, 1.0),
  )
  show = functools.partial(
      show_moment,
      columns=columns,
      units=batch["units"],
      probability=outputs["probability"],
      picks=outputs["picks"],
      truth=batch["picks"],
      scale=scale,
  )
  title = (
      "dots: own units by probability, orange the enemy's, gray nobody's;"
      " rings: selected; crosses: predicted; frame: the screen"
  )
  count, size = batch["real"].sum(), (14.0, 15.0)
  return {"selections": figures.sixteen(count, show, title, size, scale)}


def show_moment(ax, i, columns, units, probability, picks, scale, truth=None):
  """Draws a map with its units into a plot of matplotlib's."""
  rows = units[i]
  x, y = column(rows, columns, "x"), column(rows, columns, "y")
  side = column(rows, columns, "alliance")
  for relation, color in ((NEUTRAL, "0.8"), (ENEMY, "tab:orange")):
    of = side == relation
    ax.scatter(x[of], y[of], 4, color)
  own = np.flatnonzero(side == SELF)
  own = own[np.argsort(probability[i][own])]  # The likeliest on top.
  chance = probability[i][own]
  ax.scatter(x[own], y[own], 12, chance, cmap=scale.colormap, norm=scale.norm)
  picked = picks[i][picks[i] < len(rows)]
  ax.scatter(x[picked], y[picked], 40, "tab:red", marker="x", linewidths=0.8)
  selected = picked[:0] if truth is None else truth[i][truth[i] < len(rows)]
  ax.scatter(
      x[selected], y[selected], 90, "none", edgecolors="black", linewidths=0.8
  )
  on_screen = column(rows, columns, "is_on_screen") * (side != 0) > 0
  if "screen_x" in columns and on_screen.any():
    first = np.flatnonzero(side)[0]
    left = x[first] - column(rows, columns, "screen_x")[first] - 16
    low = y[first] - column(rows, columns, "screen_y")[first] - 7
    ax.plot(
        left + np.array([0, 32, 32, 0, 0]),
        low + np.array([0, 0, 20, 20, 0]),
        color="0.5",
        linewidth=0.8,
    )
  ax.set_aspect("equal")
  if truth is not None:
    both = len(set(picked) & set(selected))
    ax.set_title(
        f"{len(selected)} selected, {len(picked)} predicted, {both} right",
        fontsize=9,
    )


class Selected(NamedTuple):
  """Predicted and true selections of a game."""

  outputs: Outputs  # "picks" [moments, picks], "probability" [moments, slots].
  batch: Batch  # What the model is given, as in evaluation.
  scores: dict[str, float]  # What `summarize` makes of all moments.


def prepare(config, raw) -> Batch:
  """All selections of a game, a replay file or `replays.Played`, in one batch.

  Raises:
    DataError: if the file cannot be read.
    UserError: if the model is of something else.
  """
  (batch,) = _batches(config, _played(raw), None)
  return batch


def _played(raw) -> replays.Played:
  if isinstance(raw, replays.Played):
    return raw
  with commands.using(str(raw)):
    return replays.play(pathlib.Path(raw))


def _batches(config, game, batch_size):
  if columns_of(config.dataset) != REPLAY_UNITS:
    raise UserError(f"the model reads {config.dataset}, which replays lack")
  moments = [
      {"units": units, "selected": selected}
      for units, selected in zip(game.units, game.selected, strict=True)
  ]
  return pipeline.evaluation(
      moments,
      [padding_of(config)],
      batch_size=batch_size or len(moments),
      shard=pipeline.Shard(),
  )


def predict(weights, raw) -> Selected:
  """The predicted selections of a game, as in `predict_game`."""
  return predict_game(weights, _played(raw))


def predict_game(
    weights: Weights, game: replays.Played, batch_size: int = 16
) -> Selected:
  """The predicted selections at each moment of a game.

  Args:
    weights: a model of selections in replays.
    game: all that were made.
    batch_size: moments at once.

  Raises:
    UserError: if the model is of something else.
  """
  found = []
  for batch in _batches(weights.config, game, batch_size):
    outputs = weights.outputs(batch)
    measured = measure(outputs, jax.device_put(batch), REPLAY_UNITS)
    kept = {name: outputs[name] for name in ("picks", "probability")}
    rows = jax.device_get((kept, batch, measured))
    count = batch["real"].sum()
    found.append(jax.tree.map(lambda x, n=count: x[:n], rows))
  outputs, batch, measured = jax.tree.map(
      lambda *parts: np.concatenate(parts), *found
  )
  return Selected(outputs, batch, summarize(measured))


def tell_game(args, load):
  """Prints the true and predicted selections of games."""
  (file,) = args.inputs
  png_files = [*args.output, *args.attention]
  if png_files:
    commands.check_outputs(png_files, (".png",), args.inputs)
  if args.moments < 1:
    raise UserError(f"--moments={args.moments}: at least 1 is needed")
  game = _played(file)
  model = load()
  with commands.using(file):
    outputs, batch, scores = model.predict(game)
  count = min(args.moments, len(game.frames))
  moments = np.linspace(0, len(game.frames) - 1, count).round().astype(int)
  races = game.info["races"]
  print(f"{file}: {game.info['map']}, {' against '.join(races.values())}")
  for i in moments:
    minutes, seconds = divmod(game.frames[i] // FRAMES_PER_SECOND, 60)
    units = batch["units"][i]
    print(
        f"  {minutes:2}:{seconds:02} player {game.players[i]},"
        f" {races[game.players[i]]}"
    )
    print(f"    selected:  {selections.named(units, batch['picks'][i])}")
    print(f"    predicted: {selections.named(units, outputs['picks'][i])}")
  print(f"all {len(game.frames):,} selections:")
  for name, value in scores.items():
    print(f"  {name}: {value:.2f}")
  for output in args.output:
    some_outputs, some = jax.tree.map(
        lambda x: x[moments[:16]], (outputs, batch)
    )
    figure = draw(some_outputs, some, REPLAY_UNITS)["selections"]
    commands.write_png(output, figure)
    print(output)
  for output in args.attention:
    units = batch["units"][moments[len(moments) // 2]]
    with commands.using(file):
      figure = selections.draw_attention(model, units)
    commands.write_png(output, figure)
    print(output)


def add_arguments(parser):
  """Arguments of `tell_game`."""
  parser.add_argument("inputs", nargs=1, metavar="REPLAY")
  parser.add_argument(
      "--moments", type=int, default=16, help="number of selections to draw"
  )
  parser.add_argument(
      "--attention",
      type=pathlib.Path,
      action="append",
      default=[],
      help="a .png: attention of latents at the middle selection",
  )
  commands.add_output(parser)


PREDICTION = Prediction(
    "starcraft",
    "configs/starcraft.py:perceiver_io",
    add_arguments,
    tell_game,
    prepare,
    predict,
)
