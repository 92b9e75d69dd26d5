"""Initialisation with a locality bias, against the usual one."""

import importlib

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.engine.build import build_network
from experiments.engine.locality import Grid
from experiments.engine.locality import locality_biased
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import record_attention

M, C, N, D, NUM_QUERIES = 211, 131, 37, 139, 53


def model(sharpness):
  """Initial parameters, and what each cross-attend reads at first."""

  def forward():
    with locality_biased(sharpness):
      x = LearnedArray(M, C, name="positions")(1)
      z = Encoder(N, D, num_heads=4, qk_channels=128)(x)
      query = LearnedArray(NUM_QUERIES, C, name="queries")(1)
      lone = LearnedArray(1, C, name="lone")(1)
      settings = {"num_heads": 4, "qk_channels": 128, "v_channels": 4 * N}
      return Decoder(**settings)(query, z) + lone

  def recorded():
    with record_attention() as weights:
      forward()
    return weights

  params = jax.jit(hk.transform(forward).init)(jax.random.key(0))
  weights = jax.jit(hk.transform(recorded).apply)(params, None)
  return params, {
      name.partition("/")[0]: np.asarray(w[0]) for name, w in weights.items()
  }


def distance(weights):
  """How far from its own place an element reads, on average; 1: everything."""
  own, read = (
      (np.arange(n) + 0.5) / n for n in (weights.shape[1], weights.shape[2])
  )
  return np.mean((weights * np.abs(own[:, None] - read)).sum(-1))


def test_every_cross_attend_starts_near_its_place():
  _, usual = model(0.0)
  _, near = model(4.0)
  assert {"encoder", "decoder"} == set(usual)
  for name, weights in usual.items():
    assert distance(weights) > 0.3
    # The decoder's keys are latents that have read.
    assert distance(near[name]) < {"encoder": 0.05, "decoder": 0.15}[name]
  assert distance(model(1.0)[1]["encoder"]) > distance(near["encoder"])


def test_all_else_is_initialised_as_usual():
  usual, near = model(0.0)[0], model(4.0)[0]
  changed = {
      f"{module}/{name}"
      for module, arrays in usual.items()
      for name, array in arrays.items()
      if not np.array_equal(array, near[module][name])
  }
  reads = {f"{x}/cross_attention/attention" for x in ("encoder", "decoder")}
  assert changed == {
      *(f"{read}/{map_}/w" for read in reads for map_ in "qk"),
      *("positions/array", "queries/array", "encoder/latents/array"),
  }
  assert jax.tree.map(jnp.shape, usual) == jax.tree.map(jnp.shape, near)


def read_of_image(sharpness, dims, latent_dims):
  """What each cross-attend of a model of an image reads at first."""
  num_bands = 5

  def forward(image):
    with locality_biased(sharpness, {"": Grid(dims, latent_dims, num_bands)}):
      x = inputs.pixels(image, num_bands, dims)
      z = Encoder(int(np.prod(latent_dims)), 61, qk_channels=37)(x)
      return Decoder(use_query_residual=False, qk_channels=37)(x, z)

  def recorded(image):
    with record_attention() as weights:
      forward(image)
    return weights

  image = jax.random.uniform(jax.random.key(1), (1, *dims, 3)) - 0.5
  params = jax.jit(hk.transform(forward).init)(jax.random.key(0), image)
  weights = jax.jit(hk.transform(recorded).apply)(params, None, image)
  return {
      name.partition("/")[0]: np.asarray(w[0, 0]) for name, w in weights.items()
  }


def distance_on_grid(weights, own, read):
  """How far from its own place an element reads, in units of the image."""
  places = lambda dims: (np.indices(dims).reshape(2, -1).T + 0.5) / dims
  between = np.linalg.norm(places(own)[:, None] - places(read), axis=-1)
  return np.mean((weights * between).sum(-1))


def test_latents_on_a_grid_start_near_their_places_too():
  dims, latents = (23, 29), (5, 7)
  usual, near = (read_of_image(s, dims, latents) for s in (0.0, 5.0))
  for name, own, read in (
      ("encoder", latents, dims),
      ("decoder", dims, latents),
  ):
    assert distance_on_grid(usual[name], own, read) > 0.4
    assert distance_on_grid(near[name], own, read) < 0.3


def reads_at_the_start(file, variant):
  """What each cross-attend of a config reads at first, by module."""
  config = importlib.import_module(f"configs.{file}").get_config(variant)
  network = build_network(config)
  model = jax.jit(network.init)()
  rng = np.random.default_rng(0)
  batch = {
      name: np.arange(x.size, dtype=x.dtype).reshape(1, *x.shape)
      if x.dtype == np.int32
      else rng.uniform(-1, 1, (1, *x.shape)).astype(x.dtype)
      for name, x in network.example.items()
  }

  def recorded(model, batch):
    with record_attention() as weights:
      # Before training, batch norm has no averages to evaluate with.
      network.net.apply(*model, jax.random.key(0), batch, file == "flow")
    return weights

  weights = jax.jit(recorded)(model, batch)
  return {
      name.partition("/")[0]: np.asarray(w[0, 0]) for name, w in weights.items()
  }


@pytest.mark.parametrize("variant", ["conv_separate", "patches_separate"])
def test_each_latent_reads_one_of_two_frames(variant):
  reads = reads_at_the_start("flow", f"mini_{variant}")
  own = np.repeat([0, 1], 48)
  of_each = reads["encoder"].reshape(96, 2, -1).sum(-1)
  assert of_each[np.arange(96), own].min() > 0.95
  # Queries, which are the first frame's, start with its latents.
  assert reads["decoder"][:, own == 0].sum(1).mean() > 0.95


def test_each_modality_has_latents_that_read_what_is_near_in_it():
  reads = reads_at_the_start("kinetics", "mini_32")
  read = reads["encoder"]
  assert read.shape == (32, 8 + 512 + 1)  # Sound, video, label.
  # A latent of sound reads one patch of it, the one at its place.
  assert (read[:8, :8].argmax(1) == np.arange(8)).all()
  assert read[:8, :8].max(1).min() > 0.6
  # A latent of video reads frames, rows and columns around its place.
  assert read[8:, 8:-1].sum(1).min() > 0.99
  place = np.indices((8, 8, 8)).reshape(3, -1).T / 8 + 1 / 16
  own = (np.indices((2, 3, 4)).reshape(3, -1).T + 0.5) / (2, 3, 4)
  found = read[8:, 8:-1] @ place
  assert np.abs(found - own).mean() < 0.15
  # What is decoded of sound starts with its latents, and with that of its own
  # patch more than with others, though the layers between have mixed them.
  of_sound = reads["decoder"][:8, :8]
  assert of_sound.sum(1).min() > 0.99
  assert np.diag(of_sound).mean() > 2 / 8
