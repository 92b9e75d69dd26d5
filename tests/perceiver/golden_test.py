"""Outputs of the official release on random parameters, and ours.

The arrays under `golden/` are float32. Two correct implementations differ by
about 5e-6 of an output's deviation; a GELU without its tanh differs by 2e-4.
"""

import re

from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import attend
from perceiver import Attention
from perceiver import AverageDecoder
from perceiver import CrossAttention
from perceiver import Encoder
from perceiver import inputs
from perceiver import losses
from perceiver import metrics
from perceiver import MLP
from perceiver import multimodal
from perceiver import position
from perceiver import Processor
from perceiver import SelfAttention
from perceiver.attention import layer_norm
from tests.conftest import GOLDEN

pytestmark = pytest.mark.usefixtures("optimized")

# What the official release calls a module, and what we do; applied in order.
RENAMES = (
    (r"attention/linear$", "attention/q"),
    (r"attention/linear_1$", "attention/k"),
    (r"attention/linear_2$", "attention/v"),
    (r"attention/linear_3$", "attention/output"),
    (r"mlp/linear$", "mlp/hidden"),
    (r"mlp/linear_1$", "mlp/output"),
    (r"cross_attention/layer_norm$", "cross_attention/norm_query"),
    (r"cross_attention/layer_norm_1$", "cross_attention/norm_x"),
    (r"cross_attention/layer_norm_2$", "cross_attention/norm_mlp"),
    (r"(self_attention(_\d+)?)/layer_norm$", r"\1/norm_z"),
    (r"(self_attention(_\d+)?)/layer_norm_1$", r"\1/norm_mlp"),
    (r"^perceiver_encoder/~/self", "processor/layers/self"),
    (r"^perceiver_encoder/~/trainable_position_encoding", "encoder/latents"),
    (r"^perceiver_encoder/~", "encoder"),
    (r"^classification_decoder/~/basic_decoder", "decoder"),
    (r"^decoder/~/trainable_position_encoding", "query"),
    (r"^decoder/output", "logits"),
    (r"^projection_decoder/~", "average_decoder"),
    (r"^image_preprocessor/~/conv2_d", "pixels"),
    (r"_mask_token$", "_mask"),
)
LAYER = re.compile(r"(processor/layers/self_attention)(?:_(\d+))?(/.*)")


def load(name, case=""):
  """Arrays of a file: those whose keys begin with `case`, without it."""
  with np.load(GOLDEN / f"{name}.npz") as file:
    return {k.removeprefix(case): file[k] for k in file if k.startswith(case)}


def mask_of(integers):
  """The release writes 1 where a key may be read."""
  return None if integers is None else jnp.asarray(integers, bool)


def to_ours(official):
  """Parameters, or their gradients, under our names, with layers stacked."""
  params, layers = {}, {}
  for key, value in official.items():
    if "|" not in key:
      continue
    path, name = key.split("|")
    for pattern, ours in RENAMES:
      path = re.sub(pattern, ours, path)
    if name == "pos_embs":
      name = "array"
    if value.ndim == 4:  # A convolution by one pixel is a linear map.
      value = value[0, 0]
    if layer := LAYER.fullmatch(path):
      stack, index, rest = layer.groups(default="0")
      layers.setdefault((stack + rest, name), {})[int(index)] = value
    else:
      params.setdefault(path, {})[name] = jnp.asarray(value)
  for (path, name), values in layers.items():
    stacked = jnp.stack([values[i] for i in range(len(values))])
    params.setdefault(path, {})[name] = stacked
  return params


def apply(function, golden, *args):
  """What Haiku code returns with the parameters of the release."""
  net = hk.without_apply_rng(hk.transform(function))
  args = [None if x is None else jnp.asarray(x) for x in args]
  return jax.jit(net.apply)(to_ours(golden), *args)


class GoldenTest(parameterized.TestCase):

  def assert_parity(self, ours, official, tolerance=2e-5):
    """The largest error is below `tolerance` deviations of the output."""
    self.assertEqual(ours.shape, official.shape)
    error = np.abs(np.asarray(ours, np.float64) - official).max()
    self.assertLess(error, tolerance * official.std())

  # Left out: float16, which nothing of ours computes in.
  @parameterized.parameters(
      (None, "out:nomask"),
      ("out:cross_mask", "out:cross_masked"),
      ("in:general_mask", "out:general_masked"),
  )
  def test_attend(self, mask, key):
    golden = load("comp_attend")
    q, k, v = (jnp.asarray(golden[f"in:{name}"]) for name in "qkv")
    read = attend(q, k, v, mask_of(golden.get(mask)))
    self.assert_parity(inputs.flatten(read.reshape(2, 5, 6)), golden[key])

  # Left out: an attention whose last projection has no bias; no published model
  # has one. What the release calls `shape_for_attn="q"` is here a number.
  @parameterized.parameters(
      ("attention_default_q12_h3", Attention, {"num_heads": 3}),
      (
          "attention_qk6_v9_out5",
          Attention,
          dict(num_heads=3, qk_channels=6, v_channels=9, output_channels=5),
      ),
      ("cross_kv", CrossAttention, {"num_heads": 2}),
      ("cross_q", CrossAttention, {"num_heads": 3, "qk_channels": 12}),
      (
          "cross_noresidual_w3",
          CrossAttention,
          {"use_query_residual": False, "widening_factor": 3},
      ),
      (
          "cross_qk4_v6_masked",
          CrossAttention,
          {"num_heads": 2, "qk_channels": 4, "v_channels": 6},
      ),
      ("cross_v6_only", CrossAttention, {"num_heads": 2, "v_channels": 6}),
  )
  def test_cross_attention(self, case, module, settings):
    mask = load("comp_attention_modules")["in:attn_mask"]
    mask = mask_of(mask if case.endswith("masked") else None)
    golden = load("comp_attention_modules", f"{case}::")
    read = lambda query, x, mask: module(**settings)(query, x, mask)
    y = apply(read, golden, golden["in:q"], golden["in:kv"], mask)
    self.assert_parity(y, golden["out:out"])

  # Left out: qk_channels without v_channels, which the release cannot do.
  @parameterized.parameters(
      ("self_default_h4_w4", {"widening_factor": 4}),
      ("self_qk8_v12_masked", {"qk_channels": 8}),
  )
  def test_self_attention(self, case, settings):
    mask = load("comp_attention_modules")["in:self_mask"]
    mask = mask_of(mask if case.endswith("masked") else None)
    golden = load("comp_attention_modules", f"{case}::")
    layer = lambda z, mask: SelfAttention(num_heads=4, **settings)(z, mask)
    z = apply(layer, golden, golden["in:q"], mask)
    self.assert_parity(z, golden["out:out"])

  def test_mlp(self):
    golden = load("comp_attention_modules", "mlp_w2::")
    y = apply(lambda x: MLP(2)(x), golden, golden["in:q"])
    self.assert_parity(y, golden["out:out"])

  def test_layer_norm_of_values_so_small_that_its_epsilon_shows(self):
    golden = load("comp_layer_norm_eps")
    y = apply(lambda x: layer_norm(x, "layer_norm"), golden, golden["in:x"])
    self.assert_parity(y, golden["out:out"])

  @parameterized.parameters(("in:mask", "out:z"), (None, "out:z_nomask"))
  def test_encoder_and_processor(self, mask, key):
    def latents(x, mask):
      z = Encoder(5, 12, num_heads=2, widening_factor=2)(x, mask)
      return Processor(2, 2, num_heads=3, widening_factor=4)(z)

    golden = load("comp_encoder_masked")
    z = apply(latents, golden, golden["in:x"], mask_of(golden.get(mask)))
    self.assert_parity(z, golden[key])

  def test_the_head_of_the_original_perceiver(self):
    def logits(image):
      z = Encoder(4, 16)(inputs.pixels(image, 3))
      z = Processor(1, num_blocks=2, num_heads=4)(z)
      return AverageDecoder(6)(z)

    golden = load("comp_perceiver_avg_projection")
    y = apply(logits, golden, golden["in:images"])
    self.assert_parity(y, golden["out:logits"])

  # Left out: grids from 0 to 1, which no published model has.
  @parameterized.parameters("1", "2", "7", "5x3", "4x6x5", "1x4", "224")
  def test_grid(self, name):
    dims = [int(n) for n in name.split("x")]
    golden = load("comp_linear_positions")[f"pos[{name}]"]
    pos = position.grid(dims).reshape(golden.shape)
    np.testing.assert_allclose(pos, golden, rtol=0, atol=2e-7)

  # Left out: features without positions or without cosines, likewise.
  @parameterized.parameters(
      ("ff0", [7], 4, [7]),
      ("ff1", [7], 5, [30]),
      ("ff2", [5, 3], 4, [5, 3]),
      ("ff3", [4, 6], 3, [224, 224]),
      ("ff4", [2, 3, 4], 2, [2, 3, 4]),
      ("ff5", [3, 4, 2], 3, [16, 56, 56]),
      ("ff6", [9], 1, [9]),
  )
  def test_fourier_features(self, case, dims, num_bands, max_resolution):
    golden = load("comp_fourier_features")[f"{case}[concat_pos=1,sine_only=0]"]
    features = position.fourier_features(
        position.grid(dims), num_bands, max_resolution
    )
    self.assert_parity(features, golden)

  def test_fourier_features_of_points_on_no_grid(self):
    golden = load("comp_fourier_features", "custom_")
    features = position.fourier_features(
        jnp.asarray(golden["pos"]), 4, [20, 30]
    )
    self.assert_parity(features, golden["out"])

  # Angles reach 350 to 48,000 radians, where float32 is exact to 3e-5 to 4e-3:
  # compiled, the release differs from itself by up to 1.2e-2.
  @parameterized.parameters(
      ("imagenet_224", [224, 224], 64, [224, 224], 2e-4),
      ("imagenet_conv_56", [56, 56], 64, [56, 56], 5e-5),
      ("flow_368x496", [368, 496], 64, [368, 496], 3e-4),
      ("video_in_16x56x56", [16, 56, 56], 32, [16, 56, 56], 5e-5),
      ("audio_1920", [1920], 192, [30720], 1.5e-2),
  )
  def test_fourier_features_of_published_sizes(
      self, case, dims, num_bands, max_resolution, tolerance
  ):
    golden = load("comp_fourier_full_rows", f"{case}:")
    pos = position.grid(dims)[golden["rows"]]
    features = position.fourier_features(pos, num_bands, max_resolution)
    np.testing.assert_allclose(features, golden["enc"], rtol=0, atol=tolerance)

  @parameterized.parameters(
      ("small1d", [9], 4, [36], 2e-5),
      ("small2d", [4, 5], 3, [4, 5], 2e-5),
      ("small3d", [2, 4, 6], 2, [2, 1, 2], 2e-5),
      ("video_full", [16, 224, 224], 32, [16, 56, 56], 5e-5),
      ("audio_full", [1920], 192, [30720], 1.5e-2),
  )
  def test_queries_of_some_positions(
      self, case, dims, num_bands, max_resolution, tolerance
  ):
    golden = load("comp_decoder_queries", f"{case}:")
    pos = position.of_indices(jnp.asarray(golden["points"]), dims)
    query = position.fourier_features(pos, num_bands, max_resolution)
    official = golden["query"][0]
    np.testing.assert_allclose(query, official, rtol=0, atol=tolerance)

  def test_queries_of_all_positions(self):
    golden = load("comp_decoder_queries")["small2d:query_unsubsampled"]
    query = position.fourier_features(position.grid([4, 5]), 3, [4, 5])
    self.assert_parity(query, golden[0])

  # Left out: patches, convolutions, and positions that are added.
  @parameterized.parameters(
      ("pixels", np.s_[:], 3, [8, 8]),
      ("pixels_ds2", np.s_[:, ::2, ::2], 3, [8, 8]),
      ("pixels_video_t2_s4", np.s_[:, ::2, ::4, ::4], 2, [4, 8, 8]),
  )
  def test_pixels(self, case, sampled, num_bands, max_resolution):
    golden = load("comp_image_preprocessor", f"{case}::")
    image = jnp.asarray(golden["in:images"][sampled])
    x = inputs.pixels(image, num_bands, max_resolution)
    self.assert_parity(x, golden["out:out"])

  def test_projected_voxels(self):
    def voxels(video):
      return inputs.pixels(hk.Linear(5, name="pixels")(video), 2, [4, 8, 8])

    golden = load("comp_image_preprocessor", "conv1x1_video::")
    x = apply(voxels, golden, golden["in:images"])
    self.assert_parity(x, golden["out:out"])

  def test_loss_and_accuracy(self):
    golden = load("comp_train_loss")
    logits, labels, mix_labels, ratio = (
        jnp.asarray(golden[f"in:{name}"])
        for name in ("logits", "labels", "mix_labels", "ratio")
    )
    targets = losses.soft_labels(labels, 10, 0.1, mix_labels, ratio)
    self.assert_parity(targets, golden["out:target"])
    loss = losses.cross_entropy(logits, targets)
    self.assert_parity(loss, golden["out:loss_per_example"])
    for k in (1, 5):
      percent = metrics.top_k(logits, labels, k)
      np.testing.assert_array_equal(percent, 100 * golden[f"out:top{k}"])

  @parameterized.parameters(
      ("in:video", "out:s2d_video_t2_s4", (2, 4, 4)),
      ("in:video", "out:s2d_video_t1_s2", (1, 2, 2)),
  )
  def test_video_patches(self, given, key, size):
    golden = load("comp_patches")
    patches = inputs.video_patches(jnp.asarray(golden[given]), size)
    np.testing.assert_array_equal(patches, golden[key])

  def test_patches_around_each_pixel(self):
    golden = load("comp_patches")
    patches = inputs.frame_patches(jnp.asarray(golden["in:flow"]))
    np.testing.assert_array_equal(patches, golden["out:patches_for_flow"])

  def test_sound(self):
    golden = load("comp_audio_preprocessor")
    patches = inputs.audio_patches(jnp.asarray(golden["in:audio"]), 4)
    np.testing.assert_array_equal(patches, golden["out:without_pos"])
    self.assert_parity(inputs.pixels(patches, 5, [24]), golden["out:out"])

  # In the one case the image and the label are hidden, in the other nothing is.
  @parameterized.parameters(("allmask_image", True), ("nomask", False))
  def test_modalities_side_by_side(self, case, is_hidden):
    golden = load(f"comp_multimodal_preprocessor_{case}")

    def packed(images, audio, label):
      image = inputs.video_patches(images, (1, 4, 4))
      arrays = {
          "audio": inputs.pixels(inputs.audio_patches(audio, 4), 5, [24]),
          "image": inputs.pixels(image, 2),
          "label": label[:, None],
      }
      hidden = {
          name: jnp.full(x.shape[:2], is_hidden)
          for name, x in arrays.items()
          if name != "audio" and is_hidden
      }
      return multimodal.Pack(4, name="multimodal_preprocessor")(arrays, hidden)

    names = ("images", "audio", "label")
    x = apply(packed, golden, *(golden[f"in:{name}"] for name in names))
    self.assert_parity(x, golden["out:out"])


if __name__ == "__main__":
  absltest.main()
