"""Trains small models of optical flow on single shifts of whole frames.

    python -m tools.learn_shifts --variant=mini_patches_separate --textures=1

The easiest task for flow: both frames, 14 x 22 pixels, are cut from one
photograph at places that differ by up to two pixels, and all pixels move
alike. With few textures, which move as a whole by up to two pixels more, flow
is nearly a linear function of both frames for each texture; with --textures=0,
each pair has another one, and a model must multiply differences in time by
those in space. So it tells a fault, with which no frames are compared, from
slow learning.

It prints errors as fractions of zero flow's: of training, of other pairs (of
other photographs if textures are not few), and of these with their frames
swapped, whose flow is the opposite.
"""

from typing import Any

from absl import flags
import cv2
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import flow as configs
from experiments import flow
from experiments.data.flow import scenes
from experiments.engine import command
from experiments.engine.locality import Grid
from experiments.engine.locality import locality_biased
from perceiver import losses

SIZE, REACH, BANDS = (14, 22), 2.0, 5
PHOTOGRAPH = (56, 88)  # The part of a photograph, of which frames are parts.
MARGIN = 3  # Pixels at its edges where no frame begins.
BATCH, TESTED = 32, 256


def settings(variant: str) -> Any:
  """The config of a variant, still smaller."""
  config: Any = configs.get_config(variant)
  is_separate = not config.model.input.concat_frames
  config.frame_size = SIZE
  config.model.num_bands = BANDS
  config.model.input.channels = 32
  config.model.processor.layers_per_block = 2
  grid = config.init.grids.frames
  grid.num_bands = BANDS
  inside, latents = SIZE, (4, 6)
  if config.model.input.name == "conv":
    inside = tuple(-(-side // 4) for side in SIZE)
  grid.dims = (2, *inside) if is_separate else inside
  grid.max_resolution = (1, *inside) if is_separate else None
  grid.latent_dims = (2, *latents) if is_separate else latents
  config.model.encoder.num_latents = int(np.prod(grid.latent_dims))
  config.model.encoder.latent_channels = 64
  return config


class Pairs:
  """Pairs of frames and their shifts, x and y in pixels."""

  def __init__(self, textures, part):
    self.settled = textures > 0
    count = textures or {"train": 4000, "test": 128}[part]
    several = scenes.Scenes(
        size=PHOTOGRAPH,
        objects=(0, 0),
        translation=0.0,
        motion_blur=0.0,
        fog=0.0,
        noise=0.0,
        part="train" if self.settled else part,
        length=count,
    )
    rng = np.random.default_rng(7)
    self.photographs = [several[i]["frames"][0] for i in range(count)]
    self.places = [self._place(rng) for _ in range(count)]

  def _place(self, rng):
    return [
        rng.integers(MARGIN, whole - side - MARGIN)
        for whole, side in zip(PHOTOGRAPH, SIZE, strict=True)
    ]

  def batch(self, rng, count):
    """So many pairs: "frames" and "shift"."""
    angle = rng.uniform(0, 2 * np.pi, count)
    length = REACH * np.sqrt(rng.uniform(size=count))
    shifts = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    frames = []
    for shift in shifts:
      i = rng.integers(len(self.photographs))
      place = self._place(rng)
      if self.settled:
        place = self.places[i] + rng.uniform(-REACH, REACH, 2)
      places = place, place - shift[::-1]
      frames.append([cut(self.photographs[i], at) for at in places])
    return {
        "frames": np.asarray(frames),
        "shift": shifts.astype(np.float32),
    }


def cut(image, place):
  """The part of an image at y and x, between pixels too."""
  matrix = np.array([[1, 0, place[1]], [0, 1, place[0]]], np.float32)
  return cv2.warpAffine(
      image,
      matrix,
      SIZE[::-1],
      flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
      borderMode=cv2.BORDER_REFLECT_101,
  )


def main():
  """Trains, and prints the errors."""
  options = flags.FLAGS
  config = settings(options.variant)
  network = flow.network(config)
  grids = {k: Grid(**v.to_dict()) for k, v in config.init.grids.items()}

  def forward(frames, is_training):
    with locality_biased(config.init.locality_bias, grids):
      return network.forward({"frames": frames}, is_training)["flow"]

  model = hk.transform_with_state(forward)
  of_training = Pairs(options.textures, "train")
  rng = np.random.default_rng(options.seed)
  others = Pairs(options.textures, "test").batch(rng, TESTED)
  params, state = jax.jit(model.init, static_argnums=2)(
      jax.random.key(options.seed), others["frames"][:2], True
  )
  rate = optax.warmup_cosine_decay_schedule(0, 1e-3, 50, options.steps, 0)
  optimizer = optax.chain(
      optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.01)
  )

  def error(flows, shifts):
    shifts = jnp.broadcast_to(shifts[:, None, None], flows.shape)
    return losses.end_point_error(flows, shifts).mean()

  def loss(params, state, batch):
    flows, state = model.apply(params, state, None, batch["frames"], True)
    return error(flows, batch["shift"]), state

  @jax.jit
  def step(params, state, memory, batch):
    of_loss = jax.value_and_grad(loss, has_aux=True)
    (value, state), gradients = of_loss(params, state, batch)
    updates, memory = optimizer.update(gradients, memory, params)
    return optax.apply_updates(params, updates), state, memory, value

  @jax.jit
  def tested(params, state, frames, shifts):
    flows, _ = model.apply(params, state, None, frames, False)
    return error(flows, shifts) / jnp.linalg.norm(shifts, axis=-1).mean()

  memory, errors, zero = optimizer.init(params), [], []
  for i in range(1, options.steps + 1):
    batch = of_training.batch(rng, BATCH)
    params, state, memory, value = step(params, state, memory, batch)
    errors.append(value)
    zero.append(np.linalg.norm(batch["shift"], axis=-1).mean())
    if i % 100 == 0:
      share = np.mean(jax.device_get(errors[-100:])) / np.mean(zero[-100:])
      print(f"step {i}: {share:.3f} of zero flow's error", flush=True)
  frames, shifts = others["frames"], others["shift"]
  print(f"other pairs: {tested(params, state, frames, shifts):.3f}")
  swapped = tested(params, state, frames[:, ::-1], -shifts)
  print(f"with frames swapped: {swapped:.3f}")


if __name__ == "__main__":
  flags.DEFINE_string("variant", "mini_patches_separate", "of configs/flow.py")
  flags.DEFINE_integer("textures", 1, "number of textures; 0: any")
  flags.DEFINE_integer("steps", 300, "number of training steps")
  flags.DEFINE_integer("seed", 0, "random seed")
  command.run(main, needs_config=False)
