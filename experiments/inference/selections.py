"""What a model of selections says of a replay that it has never seen."""

import collections
import functools
import pathlib
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from experiments import starcraft
from experiments.data.starcraft import replays
from experiments.data.starcraft.features import REPLAY_UNITS
from experiments.data.starcraft.features import type_name
from experiments.data.starcraft.game import ReplayError
from experiments.engine import figures
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights
from experiments.inference.predictions import require
from perceiver import record_weights
from perceiver import starcraft as starcraft_lib

FRAMES_PER_SECOND = 16  # Of the game's clock.


def play(path: str | pathlib.Path) -> replays.Played:
  """The selections of a replay.

  Raises:
    UserError: if it is of no use.
  """
  try:
    return replays.play(pathlib.Path(path))
  except ReplayError as error:
    raise UserError(str(error)) from error


def predict(
    weights: Weights, game: replays.Played, batch_size: int = 16
) -> dict[str, np.ndarray]:
  """Each moment of a game, and what the model would have selected.

  Args:
    weights: a model of selections in replays.
    game: all that were made.
    batch_size: moments at once.

  Returns:
    "units" [moments, slots, columns] and "truth" [moments, picks], as the model
    is given them; "picks", the model's; "probability" [moments, slots]; and the
    "log_likelihood" of the truth [moments].

  Raises:
    UserError: if the model is of something else.
  """
  require(weights, "starcraft")
  config = weights.config
  if starcraft.columns_of(config.dataset) != REPLAY_UNITS:
    raise UserError(f"the model reads {config.dataset}, which no replay has")
  examples = [
      starcraft.padded(
          {"units": units, "selected": selected},
          None,
          REPLAY_UNITS,
          config.num_units,
          config.max_picks,
      )
      for units, selected in zip(game.units, game.selected, strict=True)
  ]
  given = jax.tree.map(lambda *x: np.stack(x), *examples)
  found = collections.defaultdict(list)
  for start in range(0, len(examples), batch_size):
    rows = np.arange(start, start + batch_size) % len(examples)
    batch = {name: x[rows] for name, x in given.items()}
    outputs = _forward(weights.network.net, weights.model, batch)
    real = min(batch_size, len(examples) - start)
    for name, value in outputs.items():
      found[name].append(np.asarray(value)[:real])
  return {
      "units": given["units"],
      "truth": given["picks"],
      **{name: np.concatenate(values) for name, values in found.items()},
  }


@functools.partial(jax.jit, static_argnums=0)
def _forward(net: hk.TransformedWithState, model: Any, batch):
  outputs, _ = net.apply(*model, None, batch, False)
  likelihood = starcraft_lib.log_likelihood(
      outputs["log_probs"], batch["picks"]
  )
  return {
      "picks": outputs["picks"],
      "probability": outputs["probability"],
      "log_likelihood": likelihood,
  }


def named(units: np.ndarray, picks: np.ndarray) -> str:
  """A selection in words: "3 Marine, 1 SCV"."""
  kinds = units[picks[picks < len(units)], 0]
  counts = collections.Counter(type_name(int(kind)) for kind in kinds)
  return ", ".join(f"{n} {name}" for name, n in counts.most_common())


def scores(found: dict[str, np.ndarray]) -> dict[str, float]:
  """How well selections are predicted, as in evaluation."""
  slots = found["units"].shape[1]
  truth, guess = (
      np.asarray(starcraft_lib.picked(jnp.asarray(found[name]), slots))
      for name in ("truth", "picks")
  )
  both, either = (truth & guess).sum(1), (truth | guess).sum(1)
  return {
      "log-likelihood per selected unit": float(
          found["log_likelihood"].sum() / truth.sum()
      ),
      "exact selections, %": 100 * float((truth == guess).all(1).mean()),
      "intersection over union, %": 100 * float((both / either).mean()),
  }


def draw(found: dict[str, np.ndarray], moments: np.ndarray) -> np.ndarray:
  """Pictures of up to 16 moments, RGB, uint8 [Y, X, 3]."""
  chosen = {
      name: found[name][moments]
      for name in ("units", "probability", "picks", "truth")
  }
  show = functools.partial(
      starcraft.show_moment, columns=REPLAY_UNITS, **chosen
  )
  title = "own units, the likeliest yellow; rings: selected; crosses: predicted"
  return figures.sixteen(len(moments), show, title, (14.0, 14.5))


def draw_attention(weights: Weights, units: np.ndarray) -> np.ndarray:
  """What each of the first 16 latents reads of the units.

  Args:
    weights: a model with latents.
    units: of a moment, [slots, columns].

  Returns:
    RGB, uint8 [Y, X, 3].

  Raises:
    UserError: if the model has no latents.
  """
  if weights.config.model.encode.name != "perceiver_io":
    raise UserError("the model has no latents, so there is nothing to draw")
  net, model = weights.network.net, weights.model

  @jax.jit
  def attend(batch):
    with record_weights() as recorded:
      net.apply(*model, None, batch, False)
    return recorded

  recorded = attend({"units": units[None]})
  (path,) = [key for key in recorded if key.startswith("encoder/")]
  attention = np.asarray(recorded[path][0].mean(0))  # [N, M]
  x, y, side = (
      starcraft.column(units, REPLAY_UNITS, name)
      for name in ("x", "y", "alliance")
  )
  colors = np.array(["white", "tab:blue", "tab:cyan", "0.6", "tab:orange"])

  def show(ax, i):
    size = 400 * attention[i] / max(attention[i].max(), 1e-6)
    real = side > 0
    ax.scatter(x[real], y[real], size[real], colors[side[real]], alpha=0.6)
    ax.set_aspect("equal")
    top = np.argsort(-attention[i])[:1]
    ax.set_title(
        f"latent {i}: most to {named(units, top)}, {attention[i].max():.0%}",
        fontsize=9,
    )

  title = (
      "what latents read; blue: own units, orange: the enemy's, gray: nobody's"
  )
  count = min(16, len(attention))
  return figures.sixteen(count, show, title, (14.0, 14.5))
