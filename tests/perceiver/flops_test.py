import functools

from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
import jax.numpy as jnp

from perceiver import AverageDecoder
from perceiver import Decoder
from perceiver import Encoder
from perceiver import inputs
from perceiver import LearnedArray
from perceiver import Processor
from perceiver import RepeatedEncoder
from perceiver.flops import count_flops
from perceiver.flops import count_parameters
from perceiver.flops import flops_by_part


def floats(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def size_of(function, *args):
  """Parameters and FLOPs of Haiku code; no array is made."""
  net = hk.without_apply_rng(hk.transform(function))
  params = jax.eval_shape(net.init, jax.random.key(0), *args)
  return count_parameters(params), count_flops(net.apply, params, *args)


class CountParametersTest(parameterized.TestCase):

  def test_of_arrays_and_of_shapes(self):
    params = {"a": {"w": jnp.zeros([3, 5]), "b": floats(7)}, "c": floats()}
    self.assertEqual(count_parameters(params), 3 * 5 + 7 + 1)


class CountFlopsTest(parameterized.TestCase):

  def test_a_matrix_product(self):
    flops = count_flops(jnp.matmul, floats(3, 5), floats(5, 7))
    self.assertEqual(flops, 2 * 3 * 5 * 7)

  def test_attention(self):
    def attend(q, k, v):
      scores = jnp.einsum("bnhf,bmhf->bhnm", q, k)
      return jnp.einsum("bhnm,bmhv->bnhv", jax.nn.softmax(scores), v)

    q, k, v = floats(2, 3, 5, 7), floats(2, 11, 5, 7), floats(2, 11, 5, 13)
    flops = count_flops(attend, q, k, v)
    self.assertEqual(flops, 2 * (2 * 5) * (3 * 11) * (7 + 13))

  def test_element_wise_operations_do_not_count(self):
    self.assertEqual(count_flops(lambda x: jnp.exp(x) + x, floats(3, 5)), 0)

  @parameterized.parameters(1, 3)
  def test_a_convolution(self, groups):
    def convolve(x, kernel):
      return jax.lax.conv_general_dilated(
          x,
          kernel,
          window_strides=(2, 1),
          padding="SAME",
          dimension_numbers=("NHWC", "HWIO", "NHWC"),
          feature_group_count=groups,
      )

    kernel = floats(3, 5, 21 // groups, 33)
    flops = count_flops(convolve, floats(2, 14, 11, 21), kernel)
    self.assertEqual(flops, 2 * (2 * 7 * 11 * 33) * (3 * 5 * 21 // groups))

  def test_the_body_of_a_scan_counts_once_a_step(self):
    def repeat(x, w):
      return jax.lax.scan(lambda x, _: (x @ w, None), x, length=7)[0]

    flops = count_flops(repeat, floats(3, 5), floats(5, 5))
    self.assertEqual(flops, 7 * (2 * 3 * 5 * 5))

  def test_of_two_branches_the_larger(self):
    def choose(x, w):
      return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w)

    flops = count_flops(choose, floats(3, 5), floats(5, 5))
    self.assertEqual(flops, 2 * (2 * 3 * 5 * 5))

  def test_a_loop_of_unknown_length_does_not_count(self):
    def until_large(x, w):
      return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x) @ w

    flops = count_flops(until_large, floats(3, 5), floats(5, 5))
    self.assertEqual(flops, 2 * 3 * 5 * 5)

  def test_parts_are_what_is_written_out_by_hand(self):
    # M = 6 pixels of C = 2 and 2 × 3 positions' channels, N = 5, D = 7, O = 1.
    def forward(image):
      x = inputs.pixels(image, num_bands=1, channels=2)
      z = Encoder(num_latents=5, latent_channels=7)(x)
      z = Processor(layers_per_block=3, num_blocks=2, num_heads=1)(z)
      query = LearnedArray(1, 11, name="query")(len(x))
      y = Decoder()(query, z)
      return hk.Linear(13)(y[:, 0])

    net = hk.without_apply_rng(hk.transform(forward))
    image = floats(1, 2, 3, 3)
    params = jax.eval_shape(net.init, jax.random.key(0), image)
    m, c, n, d, e = 6, 8, 5, 7, 11
    read = n * d * c + 2 * m * c * c + n * c * d + 2 * n * m * c
    layer = 4 * n * d * d + 2 * n * n * d + 2 * n * d * d
    write = e * d + 2 * n * d * d + d * e + 2 * n * d + 2 * e * e
    self.assertEqual(
        flops_by_part(net.apply, params, image),
        {
            "input": 2 * m * 3 * 2,
            "encode": 2 * (read + 2 * n * d * d),
            "process": 2 * 6 * layer,
            "decode": 2 * write,
            "head": 2 * e * 13,
        },
    )

  @parameterized.parameters(jax.jit, jax.checkpoint, jax.vmap)
  def test_what_is_wrapped(self, wrap):
    flops = count_flops(wrap(jnp.matmul), floats(2, 3, 5), floats(2, 5, 7))
    self.assertEqual(flops, 2 * 2 * 3 * 5 * 7)

  def test_a_backward_pass_that_recomputes_counts_twice_the_forward(self):
    product = lambda x, w: jnp.sum(jnp.sin(x @ w))
    counts = [
        count_flops(
            jax.grad(function, argnums=(0, 1)), floats(3, 5), floats(5, 7)
        )
        for function in (product, jax.checkpoint(product))
    ]
    once = 2 * 3 * 5 * 7
    self.assertEqual(counts, [3 * once, 4 * once])


class PublishedSizeTest(parameterized.TestCase):
  """Of models as published; FLOPs to half a percent, as the papers round."""

  def assert_size(self, size, parameters, flops):
    self.assertEqual(size[0], parameters)
    self.assertLess(abs(size[1] / flops - 1), 5e-3)

  @parameterized.parameters(
      ("fourier", 48_440_627, 406.1e9),
      ("learned", 62_255_848, 478.0e9),
  )
  def test_imagenet(self, variant, parameters, flops):
    def forward(image):
      if variant == "fourier":
        x = inputs.pixels(image, num_bands=64)
      else:
        x = inputs.learned_positions(image, channels=256)
      z = Encoder(num_latents=512, latent_channels=1024)(x)
      z = Processor(layers_per_block=6, num_blocks=8)(z)
      query = LearnedArray(1, 1024, name="query")(len(x))
      return hk.Linear(1000)(Decoder()(query, z))

    size = size_of(forward, floats(1, 224, 224, 3))
    self.assert_size(size, parameters, flops)

  def test_language(self):
    def forward(tokens):
      embed = hk.Embed(262, 768)
      x = embed(tokens) + LearnedArray(2048, 768, name="positions")(1)
      z = Encoder(256, 1280, num_heads=8, qk_channels=256, v_channels=1280)(x)
      z = Processor(layers_per_block=26, qk_channels=256)(z)
      query = LearnedArray(2048, 768, name="query")(len(x))
      y = Decoder(num_heads=8, qk_channels=256, v_channels=768)(query, z)
      return hk.Bias(bias_dims=[-1])(y @ embed.embeddings.T)

    tokens = jax.ShapeDtypeStruct((1, 2048), jnp.int32)
    self.assert_size(size_of(forward, tokens), 201_108_230, 120.95e9)

  # The original Perceiver, Tables 5 to 7: 12.7M, 23.8M, 44.9M and 326.2M.
  @parameterized.parameters(
      (4, 0, False, True, 12_654_868, 173.1e9),
      (8, 0, False, True, 23_760_448, 346.1e9),
      (1, 8, True, True, 42_135_859, 404.3e9),
      (2, 8, True, True, 44_912_254, 447.6e9),
      (8, 8, True, True, 44_912_254, 707.2e9),
      (8, 8, False, False, 326_241_856, 707.2e9),
  )
  def test_repeated_reads(
      self, num_reads, num_blocks, share_reads, share_blocks, parameters, flops
  ):
    processor = {
        "layers_per_block": 6,
        "num_blocks": num_blocks,
        "share_blocks": share_blocks,
    }

    def forward(interleave, image):
      z = RepeatedEncoder(
          {"num_latents": 512, "latent_channels": 1024},
          processor,
          num_reads=num_reads,
          interleave=interleave,
          share_reads=share_reads,
      )(inputs.pixels(image, num_bands=64))
      return AverageDecoder(1000)(z)

    for interleave in (True, False):
      function = functools.partial(forward, interleave)
      size = size_of(function, floats(1, 224, 224, 3))
      self.assert_size(size, parameters, flops)


if __name__ == "__main__":
  absltest.main()
