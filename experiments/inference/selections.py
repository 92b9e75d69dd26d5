"""Selections of units as texts, and attention of latents to units."""

import collections

import jax
import numpy as np

from experiments.data.starcraft.features import REPLAY_UNITS
from experiments.data.starcraft.features import type_name
from experiments.engine import figures
from experiments.engine.errors import UserError
from experiments.engine.weights import Weights
from perceiver import record_attention


def named(units: np.ndarray, picks: np.ndarray) -> str:
  """A selection in words: "3 Marine, 1 SCV"."""
  kinds = units[picks[picks < len(units)], 0]
  counts = collections.Counter(type_name(int(kind)) for kind in kinds)
  return ", ".join(f"{n} {name}" for name, n in counts.most_common())


def draw_attention(weights: Weights, units: np.ndarray) -> np.ndarray:
  """Draws the attention of the first 16 latents to the units.

  Args:
    weights: a model with latents.
    units: units of a moment, [slots, columns].

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
    with record_attention() as recorded:
      net.apply(*model, None, batch, False)
    return recorded

  recorded = attend({"units": units[None]})
  (path,) = [key for key in recorded if key.startswith("encoder/")]
  attention = np.asarray(recorded[path][0].mean(0))  # [N, M]
  x, y, side = (
      units[:, REPLAY_UNITS.index(name)] for name in ("x", "y", "alliance")
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
