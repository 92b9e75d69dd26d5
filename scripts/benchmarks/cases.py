"""The published models as benchmarks."""

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.engine import optim
from experiments.engine import settings
from experiments.engine import step as step_lib
from experiments.engine.build import build_network
from experiments.engine.build import BuiltNetwork
from experiments.engine.errors import UserError
from experiments.engine.state import Model
from experiments.engine.state import TrainState
from perceiver import attend_by
from perceiver import flops

# Name: config, and the points that are decoded where it is not all of them.
CONFIGS = {
    "mlm": ("mlm:bytes", None),
    "imagenet": ("imagenet:fourier", None),
    "imagenet_learned": ("imagenet:learned", None),
    "imagenet_conv": ("imagenet:conv", None),
    # A chunk: 1 / 128 of 16 × 224 × 224 voxels and of 1,920 audio patches.
    "kinetics": ("kinetics:published", {"video": 6272, "audio": 15}),
    "flow": ("flow:patches", None),
}
# Settings that change memory and time alone.
CHANGES = {"flow": {"model.decoder.chunk": 368 * 496 // 8}}
LEARNING_RATE = 1e-4  # Of AdamW, after clipping at a norm of 1.


@dataclasses.dataclass(frozen=True)
class Case:
  """A model with weights and a random batch."""

  config: Any
  network: BuiltNetwork
  model: Model
  batch: Mapping[str, Any]

  def forward(self, model: Model, batch: Mapping[str, Any]) -> Any:
    """Evaluation's outputs."""
    return self.network.net.apply(*model, jax.random.key(0), batch, False)[0]

  def gradient(self, model: Model, batch: Mapping[str, Any]) -> Any:
    """The gradient of the loss with respect to the parameters."""

    def objective(params):
      rng = jax.random.key(0)
      outputs, _ = self.network.net.apply(
          params, model.net_state, rng, batch, True
      )
      return loss(outputs, batch)[0]

    return jax.grad(objective)(model.params)

  def train_step(self):
    """A step of training, (state, batch) -> (state, scalars), to compile."""
    return step_lib.make_train_step(
        self.network.net, loss, self._optimizer(), seed=0
    )

  def state(self) -> TrainState:
    """The initial state."""
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        model=self.model,
        opt_state=self._optimizer().init(self.model.params),
        skipped=jnp.zeros([], jnp.int32),
    )

  def flops(self) -> int:
    """FLOPs of the forward pass of this batch."""
    with attend_by("plain"):
      return flops.count_flops(self.forward, self.network.like, self.batch)

  def _optimizer(self):
    return optax.chain(optim.clip(1.0), optax.adamw(LEARNING_RATE))


def chosen(asked: str | None, known: Iterable[str]) -> list[str]:
  """The models that --models names, or all of those known.

  Raises:
    UserError: if one is not known.
  """
  models = asked.split(",") if asked else list(known)
  if unknown := sorted(set(models) - set(known)):
    raise UserError(f"--models={','.join(unknown)}: not in {sorted(known)}")
  return models


def config_of(name: str) -> Any:
  """The config of a published model."""
  return settings.load(CONFIGS[name][0])


def make(
    name: str,
    batch_size: int = 1,
    changes: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Case:
  """A published model with random weights, and a batch.

  Args:
    name: a key of `CONFIGS`.
    batch_size: examples.
    changes: of settings, path -> text.
    seed: of the weights.

  Raises:
    UserError: if a change is none.
  """
  config = settings.load(CONFIGS[name][0], CHANGES.get(name, {}))
  config = settings.changed(config, changes or {}, are_texts=True)
  network = build_network(config)
  rng = np.random.default_rng(seed)

  def draw(x):
    if not jnp.issubdtype(x.dtype, jnp.floating):
      return jnp.zeros(x.shape, x.dtype)
    # Faster than normal numbers; of layers with so many inputs, as at the start
    # of training.
    scale = (3 / max(x.shape[-2:-1], default=1)) ** 0.5
    return jnp.asarray(scale * (2 * rng.random(x.shape, np.float32) - 1))

  return Case(
      config,
      network,
      jax.tree.map(draw, network.like),
      batch_of(network, CONFIGS[name][1], batch_size),
  )


def batch_of(
    network: BuiltNetwork,
    points: Mapping[str, int] | None,
    batch_size: int,
) -> dict[str, jax.Array]:
  """Uniform numbers, bytes, the first points; nothing is masked."""
  rng = np.random.default_rng(1)

  def draw(name, x):
    if points and name.endswith("_points"):
      count = points[name.removesuffix("_points")]
      return np.tile(np.arange(count, dtype=x.dtype), (batch_size, 1))
    if jnp.issubdtype(x.dtype, jnp.floating):
      return rng.random(x.shape, np.float32)
    if x.dtype == jnp.bool_:
      return np.ones(x.shape, bool)
    return rng.integers(256, size=x.shape)

  like = network.batch_like(batch_size)
  return {name: jnp.asarray(draw(name, x), x.dtype) for name, x in like.items()}


def loss(outputs: Any, batch: Mapping[str, Any]):
  """Cross-entropy with class 0 for logits, mean squares for the rest."""
  del batch
  if set(outputs) == {"logits"}:
    logits = outputs["logits"]
    labels = jnp.zeros(logits.shape[:-1], jnp.int32)
    value = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return value.mean(), {}
  squares = [jnp.square(x).mean() for x in jax.tree.leaves(outputs)]
  return jnp.stack(squares).sum(), {}
