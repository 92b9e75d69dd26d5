import dataclasses
import functools
import re
from typing import Any
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
from jax.extend import core
import jax.numpy as jnp
from jaxtyping import TypeCheckError
import numpy as np

from perceiver import attend_by
from perceiver import AverageDecoder
from perceiver import compiled_for
from perceiver import Decoder
from perceiver import Encoder
from perceiver import laid_out_by
from perceiver import LearnedArray
from perceiver import Processor
from perceiver import record_attention
from perceiver import RepeatedEncoder
from perceiver import SelfAttention
from perceiver.flops import count_flops
from perceiver.flops import count_parameters
from perceiver.target import Target


def normal(*shape):
  """Numbers that depend on the shape alone."""
  rng = np.random.default_rng(shape)
  return rng.normal(size=shape).astype(np.float32)


def transform(module, **settings):
  """A call of a module as a pair of functions, without an rng."""
  call = lambda *args: module(**settings)(*args)
  return hk.without_apply_rng(hk.transform(call))


def some_params(net, *args):
  """Parameters, none of which is zero."""
  shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
  return jax.tree.map(lambda x: 0.5 * normal(*x.shape), shapes)


def run(net, *args):
  return jax.jit(net.apply)(some_params(net, *args), *args)


def shapes_of(function, *args):
  """Shapes of all that is computed on the way to a result."""

  def of(jaxpr):
    for equation in jaxpr.eqns:
      yield from (out.aval.shape for out in equation.outvars)
      for inner in core.jaxprs_in_params(equation.params):
        yield from of(inner)

  return list(of(jax.make_jaxpr(function)(*args).jaxpr))


def assert_near(ours, expected, atol=1e-5):
  near = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=atol)
  jax.tree.map(near, ours, expected)


@dataclasses.dataclass
class NotingLayout:
  """A layout of one device that notes what examples share."""

  shared: list[Any]
  parts = 1

  def place(self, x):
    return x

  def per_example(self, function, shared, x):
    self.shared.append(shared)
    return function(shared, x)

  def attend(self, attend, *args):
    return attend(*args)


class EncoderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.net = transform(
        Encoder, num_latents=3, latent_channels=10, num_heads=2, qk_channels=6
    )
    self.x = normal(2, 11, 7)
    self.mask = np.arange(11) < np.array([[4], [9]])

  def test_what_is_masked_does_not_matter(self):
    z = run(self.net, self.x, self.mask)
    other = np.where(self.mask[..., None], self.x, 9.0)
    np.testing.assert_array_equal(z, run(self.net, other, self.mask))
    shorter = run(self.net, self.x[:1, :4], self.mask[:1, :4])
    assert_near(z[:1], shorter)

  def test_inputs_are_a_set(self):
    order = np.random.default_rng(0).permutation(11)
    z = run(self.net, self.x, self.mask)
    assert_near(run(self.net, self.x[:, order], self.mask[:, order]), z)

  def test_nothing_to_read_is_no_input_at_all(self):
    nothing = np.zeros([2, 11], bool)
    z = np.asarray(run(self.net, self.x, nothing))
    self.assertTrue(np.isfinite(z).all())
    np.testing.assert_array_equal(z, run(self.net, 2 * self.x, nothing))
    np.testing.assert_array_equal(z[0], z[1])

  def test_without_a_query_residual_only_what_was_read_is_left(self):
    x = jnp.asarray(normal(2, 9, 6))
    for residual in (True, False):
      net = transform(
          Encoder,
          num_latents=5,
          latent_channels=12,
          use_query_residual=residual,
      )
      params = some_params(net, x)
      z = net.apply(params, x)
      # A layer norm comes before the read: it does not see the scale.
      latents = params["encoder/latents"]["array"]
      params["encoder/latents"]["array"] = 7 * latents
      change = np.abs(net.apply(params, x) - z).max()
      self.assertEqual(change < 1e-3, not residual)

  def test_cost_is_linear_in_inputs(self):
    params = some_params(self.net, self.x)
    costs = [
        count_flops(self.net.apply, params, normal(2, m, 7))
        for m in (100, 200, 300)
    ]
    self.assertEqual(costs[2] - costs[1], costs[1] - costs[0])

  def test_memory_is_linear_in_inputs(self):
    x = normal(2, 101, 7)
    shapes = shapes_of(self.net.apply, some_params(self.net, x), x)
    self.assertIn((2, 2, 3, 101), shapes)  # [B, H, N, M]
    self.assertEqual(max(shape.count(101) for shape in shapes), 1)

  def test_a_wrong_mask_names_its_axis(self):
    with self.assertRaisesRegex(TypeCheckError, "(?s)parameter 'mask'.*M=11"):
      run(self.net, self.x, np.ones([2, 5], bool))


class ProcessorTest(parameterized.TestCase):

  def layers(self, params):
    """Parameters of `SelfAttention`, layer by layer."""
    prefix = "processor/layers/"
    params = {path.removeprefix(prefix): p for path, p in params.items()}
    count = len(params["self_attention/norm_z"]["scale"])
    return [jax.tree.map(lambda x, i=i: x[i], params) for i in range(count)]

  @parameterized.parameters((3, 1, True), (2, 3, True), (2, 3, False))
  def test_is_one_layer_after_another(self, depth, num_blocks, share_blocks):
    settings = dict(num_heads=2, qk_channels=6, widening_factor=2)
    net = transform(
        Processor,
        layers_per_block=depth,
        num_blocks=num_blocks,
        share_blocks=share_blocks,
        **settings,
    )
    z = normal(2, 5, 10)
    params = some_params(net, z)
    layers = self.layers(params)
    self.assertLen(layers, depth if share_blocks else depth * num_blocks)
    expected = z
    layer = jax.jit(transform(SelfAttention, **settings).apply)
    for _ in range(num_blocks if share_blocks else 1):
      for layer_params in layers:
        expected = layer(layer_params, expected)
    assert_near(jax.jit(net.apply)(params, z), expected, atol=1e-4)

  def test_blocks_of_their_own_have_as_many_parameters_each(self):
    z = normal(2, 5, 10)
    counts = [
        count_parameters(some_params(transform(Processor, **settings), z))
        for settings in (
            dict(layers_per_block=2, num_heads=2),
            dict(layers_per_block=2, num_heads=2, num_blocks=3),
            dict(
                layers_per_block=2,
                num_heads=2,
                num_blocks=3,
                share_blocks=False,
            ),
        )
    ]
    self.assertEqual(counts, [counts[0], counts[0], 3 * counts[0]])

  def test_layers_start_with_weights_of_their_own(self):
    net = transform(Processor, layers_per_block=3, num_heads=2)
    params = jax.jit(net.init)(jax.random.key(0), normal(1, 1, 64))
    layers = [
        params["self_attention/mlp/hidden"]["w"]
        for params in self.layers(params)
    ]
    for weights in layers:
      self.assertAlmostEqual(8 * np.std(weights), 1.0, delta=0.05)
    for i, j in ((0, 1), (0, 2), (1, 2)):
      correlation = np.corrcoef(np.ravel(layers[i]), np.ravel(layers[j]))
      self.assertLess(np.abs(correlation[0, 1]), 0.1)

  def test_recomputing_changes_no_value_and_no_gradient(self):
    z = jnp.asarray(normal(2, 5, 10))
    results, recomputed = [], []
    for remat in (False, True):
      net = transform(
          Processor,
          layers_per_block=2,
          num_heads=2,
          remat=remat,
      )
      loss = lambda params, net=net: jnp.square(net.apply(params, z)).mean()
      params = some_params(net, z)
      results.append(jax.jit(jax.value_and_grad(loss))(params))
      program = str(jax.make_jaxpr(jax.grad(loss))(params))
      recomputed.append(program.count("prevent_cse="))
    self.assertLess(recomputed[0], recomputed[1])
    assert_near(results[1], results[0])

  def test_longer_bodies_of_the_loop_change_no_value_and_no_gradient(self):
    z = jnp.asarray(normal(2, 5, 10))
    for num_blocks in (1, 3):
      results = []
      for unroll in (1, 2, 4):
        net = transform(
            Processor,
            layers_per_block=4,
            num_blocks=num_blocks,
            num_heads=2,
            unroll=unroll,
        )
        params = some_params(net, z)

        def loss(params, net=net):
          with record_attention() as weights:
            z1 = net.apply(params, z)
          return jnp.square(z1).mean(), weights

        results.append(jax.jit(jax.grad(loss, has_aux=True))(params))
      assert_near(results[1], results[0])
      assert_near(results[2], results[0])

  def test_bodies_are_as_long_as_the_target_likes(self):
    turns = {
        ("cpu", 1, 4, 1): ["4"],
        ("cpu", 2, 4, 3): ["4", "3"],
        ("tpu", 1, 26, 1): ["26"],
        ("tpu", 2, 26, 1): ["13"],
        ("tpu", 2, 4, 1): [],
        ("tpu", 1, 4, 3): ["3"],
        ("tpu", 1, 26, 3): ["13", "3"],
        ("tpu", 2, 24, 3): ["4", "3"],
    }
    for (platform, devices, layers, blocks), lengths in turns.items():
      net = transform(
          Processor, layers_per_block=layers, num_blocks=blocks, num_heads=2
      )
      z = normal(2, 5, 10)
      with compiled_for(Target(platform, devices)), attend_by("plain"):
        params = some_params(net, z)
        program = str(jax.make_jaxpr(net.apply)(params, z))
      found = re.findall(r"[^_]length=(\d+)", program)  # The inner one first.
      self.assertEqual(found, lengths)

  def test_a_tpu_keeps_less_for_the_same_gradients(self):
    z = jnp.asarray(normal(2, 5, 12))
    net = transform(Processor, layers_per_block=3, num_blocks=2, num_heads=2)
    params = some_params(net, z)
    loss = lambda params: jnp.square(net.apply(params, z)).mean()
    gradients, kept = [], []
    for platform in ("cpu", "tpu"):
      with compiled_for(Target(platform)), attend_by("plain"):
        gradients.append(jax.jit(jax.grad(loss))(params))
        pull = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params)
        kept.append(sum(x.size for x in jax.tree.leaves(pull)))
    assert_near(gradients[1], gradients[0])
    weights = count_parameters(params)
    # Of 11 arrays like z a layer, its weights apart, those that it costs most
    # to compute again.
    self.assertLess(kept[1] - weights, 0.5 * (kept[0] - weights))

  def test_what_all_repeats_share_is_handed_over_once(self):
    z = jnp.asarray(normal(2, 5, 10))
    for num_blocks in (1, 3):
      net = transform(
          Processor, layers_per_block=2, num_blocks=num_blocks, num_heads=2
      )
      loss = lambda params, net=net: jnp.square(net.apply(params, z)).mean()
      params = some_params(net, z)
      expected = jax.grad(loss)(params)
      layout: Any = NotingLayout([])
      with laid_out_by(layout):
        found = jax.grad(loss)(params)
      self.assertLen(layout.shared, int(num_blocks > 1))
      for array in jax.tree.leaves(layout.shared):
        self.assertLen(array, 2)  # All layers of it.
      assert_near(found, expected)

  def test_what_recomputing_keeps_is_a_setting(self):
    z = jnp.asarray(normal(2, 5, 10))
    products = []
    for policy in ("nothing_saveable", "dots_saveable"):
      net = transform(
          Processor,
          layers_per_block=2,
          num_heads=2,
          remat_policy=policy,
          remat=True,
      )
      loss = lambda params, net=net: jnp.square(net.apply(params, z)).mean()
      params = some_params(net, z)
      program = str(jax.make_jaxpr(jax.grad(loss))(params))
      products.append(program.count("dot_general"))
    self.assertLess(products[1], products[0])

  @parameterized.parameters(
      ({"unroll": 3}, "unroll 3 does not divide 4 layers"),
      (
          {"remat": True, "remat_policy": "all"},
          "remat_policy 'all' is not in jax.checkpoint_policies",
      ),
  )
  def test_bodies_and_policies_that_there_are_not(self, settings, message):
    net = transform(Processor, layers_per_block=4, num_heads=2, **settings)
    with self.assertRaisesRegex(ValueError, message):
      jax.eval_shape(net.init, jax.random.key(0), normal(2, 5, 10))

  def test_the_program_does_not_grow_with_depth(self):
    def equations(layers_per_block, num_blocks):
      net = transform(
          Processor,
          layers_per_block=layers_per_block,
          num_blocks=num_blocks,
          num_heads=2,
      )
      z = normal(2, 5, 10)
      return len(shapes_of(net.apply, some_params(net, z), z))

    self.assertEqual(equations(2, 2), equations(7, 11))


class RepeatedEncoderTest(parameterized.TestCase):
  encoder = {"num_latents": 3, "latent_channels": 10, "num_heads": 1}

  # By hand, for 7 input and 10 latent channels: q, k, v and output; three
  # norms; the two maps of the MLP.
  read = (10 * 7 + 7) + 2 * (7 * 7 + 7) + (7 * 10 + 10)
  read += 2 * (10 + 7 + 10) + 2 * (10 * 10 + 10)
  layer = 4 * (10 * 10 + 10) + 2 * (10 + 10) + 2 * (10 * 10 + 10)
  latents = 3 * 10

  def transform(self, num_blocks, share_blocks=True, **settings):
    processor = {
        "layers_per_block": 2,
        "num_blocks": num_blocks,
        "share_blocks": share_blocks,
        "num_heads": 2,
    }
    return transform(
        RepeatedEncoder, encoder=self.encoder, processor=processor, **settings
    )

  @parameterized.product(
      interleave=[True, False],
      share_reads=[True, False],
      share_blocks=[True, False],
  )
  def test_parameters(self, interleave, share_reads, share_blocks):
    net = self.transform(
        8,
        share_blocks,
        num_reads=4,
        interleave=interleave,
        share_reads=share_reads,
    )
    reads = 2 if share_reads else 4
    layers = 2 if share_blocks else 16
    self.assertEqual(
        count_parameters(some_params(net, normal(1, 5, 7))),
        self.latents + reads * self.read + layers * self.layer,
    )

  def test_without_blocks_it_reads_and_no_more(self):
    net = self.transform(0, num_reads=3, share_reads=False)
    params = some_params(net, normal(1, 5, 7))
    self.assertEqual(count_parameters(params), self.latents + 3 * self.read)

  def test_one_read_is_an_encoder_and_a_processor(self):
    def both(x):
      with hk.name_scope("repeated_encoder"):
        z = Encoder(**self.encoder)(x)
        return Processor(2, 3, num_heads=2)(z)

    x = normal(2, 5, 7)
    z = run(self.transform(3, num_reads=1), x)
    assert_near(z, run(hk.without_apply_rng(hk.transform(both)), x))

  @parameterized.product(interleave=[True, False], share=[True, False])
  def test_order_of_reads_and_blocks(self, interleave, share):
    net = self.transform(
        3, share, num_reads=3, interleave=interleave, share_reads=share
    )
    x = normal(2, 5, 7)
    mask = np.arange(5) < np.array([[2], [4]])
    params = some_params(net, x, mask)

    @hk.without_apply_rng
    @hk.transform
    def by_hand(x, mask):
      with hk.name_scope("repeated_encoder"):
        encoder = Encoder(**self.encoder)
        read_2 = encoder.reader("read_again" if share else "read_2")
        read_3 = read_2 if share else encoder.reader("read_3")
        num_blocks = 1 if interleave else 3
        processors = [
            Processor(2, num_blocks, share, num_heads=2, name=name)
            for name in (
                ("processor",)
                if share
                else ("processor_1", "processor_2", "processor_3")
            )
        ]
        first, second, third = processors * 3 if share else processors
        if interleave:
          z = first(encoder(x, mask))
          z = second(read_2(z, x, mask))
          return third(read_3(z, x, mask))
        z = encoder(x, mask)
        return first(read_3(read_2(z, x, mask), x, mask))

    both = lambda *args: [net.apply(*args), by_hand.apply(*args)]
    z, expected = jax.jit(both)(params, x, mask)
    assert_near(z, expected)

  def test_blocks_that_do_not_divide_among_reads(self):
    net = self.transform(8, num_reads=3)
    with self.assertRaisesRegex(ValueError, "repeated_encoder: 8 blocks .* 3"):
      run(net, normal(1, 5, 7))


class DecoderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.query, self.z = normal(2, 7, 6), normal(2, 5, 10)
    self.mask = np.arange(7) < np.array([[4], [6]])

  def transform(self, chunk=None):
    return transform(
        Decoder, num_heads=2, qk_channels=4, v_channels=8, chunk=chunk
    )

  @parameterized.parameters(True, False)
  def test_chunks_change_no_output(self, masked):
    args = (self.query, self.z, *([self.mask] if masked else []))
    whole = run(self.transform(), *args)
    for chunk in (1, 2, 6):  # Of 7 queries.
      with self.subTest(chunk):
        assert_near(run(self.transform(chunk), *args), whole)

  @parameterized.parameters(2, 3)
  def test_chunks_of_rows_in_several_places_change_no_output(self, parts):
    layout = mock.Mock(parts=parts, place=lambda x: x, gather=lambda x: x)
    layout.attend = lambda attend, *args: attend(*args)
    whole = run(self.transform(), self.query, self.z, self.mask)
    for chunk in (2, 3, 6):
      with self.subTest(chunk), laid_out_by(layout):
        net = self.transform(chunk)
        assert_near(run(net, self.query, self.z, self.mask), whole)

  @parameterized.parameters(None, 3)
  def test_a_head_sees_every_output(self, chunk):
    double = lambda y: 2 * y[..., :1]
    decoder = self.transform(chunk)
    whole = run(self.transform(), self.query, self.z)
    params = some_params(decoder, self.query, self.z)
    query, z = jnp.asarray(self.query), jnp.asarray(self.z)
    y = decoder.apply(params, query, z, None, double)
    assert_near(y, 2 * whole[..., :1])

  def test_chunks_change_no_gradient(self):
    def gradients(chunk, *args):
      mask = jnp.asarray(self.mask)
      y = lambda *args: self.transform(chunk).apply(*args, mask)
      loss = lambda *args: jnp.square(y(*args)).mean()
      return jax.grad(loss, argnums=(0, 1, 2))(*args)

    params = some_params(self.transform(), self.query, self.z)
    both = lambda *args: [gradients(chunk, *args) for chunk in (None, 3)]
    whole, parts = jax.jit(both)(params, self.query, self.z)
    assert_near(parts, whole)

  @parameterized.parameters((None, 7), (100, 7), (3, 3))
  def test_chunks_bound_memory(self, chunk, at_a_time):
    net = self.transform(chunk)
    params = some_params(net, self.query, self.z)
    shapes = shapes_of(net.apply, params, self.query, self.z)
    scores = [shape for shape in shapes if shape[-1:] == (5,)]
    self.assertEqual(max(scores, key=np.prod), (2, 2, at_a_time, 5))

  def test_a_gradient_keeps_nothing_of_chunks(self):
    query, z = jnp.asarray(normal(2, 1024, 6)), jnp.asarray(self.z)

    def temporary_bytes(chunk):
      net = self.transform(chunk)
      params = some_params(net, query, z)
      loss = lambda params: jnp.square(net.apply(params, query, z)).sum()
      compiled = jax.jit(jax.grad(loss)).lower(params).compile()
      return compiled.memory_analysis().temp_size_in_bytes

    self.assertLess(3 * temporary_bytes(64), temporary_bytes(None))

  @parameterized.parameters(None, 3)
  def test_queries_do_not_see_each_other(self, chunk):
    net = self.transform(chunk)
    y = run(net, self.query, self.z)
    moved = self.query + 9.0 * (np.arange(7) == 4)[:, None]
    change = np.abs(run(net, moved.astype(np.float32), self.z) - y).max((0, 2))
    np.testing.assert_array_equal(change > 0, np.arange(7) == 4)

  def test_a_query_that_is_padding_holds_nothing_of_the_latents(self):
    net = self.transform()
    y = np.asarray(run(net, self.query, self.z, self.mask))
    other = np.asarray(run(net, self.query, 2 * self.z + 1, self.mask))
    np.testing.assert_array_equal(y[~self.mask], other[~self.mask])
    changed = (y != other).any(-1)
    np.testing.assert_array_equal(changed, self.mask)

  def test_cost_is_linear_in_queries(self):
    net = self.transform()
    params = some_params(net, self.query, self.z)
    costs = [
        count_flops(net.apply, params, normal(2, o, 6), self.z)
        for o in (100, 200, 300)
    ]
    self.assertEqual(costs[2] - costs[1], costs[1] - costs[0])


class AverageDecoderTest(parameterized.TestCase):

  def test_starts_at_zero(self):
    net = transform(AverageDecoder, num_outputs=3)
    z = jnp.asarray(normal(2, 5, 7))
    params = net.init(jax.random.key(0), z)
    np.testing.assert_array_equal(net.apply(params, z), np.zeros([2, 3]))

  def test_projects_the_mean_latent(self):
    net = transform(AverageDecoder, num_outputs=3)
    z = normal(2, 5, 7)
    params = some_params(net, z)
    logits = params["average_decoder/logits"]
    expected = z.mean(1) @ logits["w"] + logits["b"]
    assert_near(jax.jit(net.apply)(params, z), expected)


class RecordWeightsTest(parameterized.TestCase):

  def transform(self, num_blocks, share_blocks):
    def model(x):
      z = Encoder(num_latents=3, latent_channels=10)(x)
      z = Processor(2, num_blocks, share_blocks, num_heads=5)(z)
      query = LearnedArray(7, 6, name="query")(len(x))
      return Decoder(num_heads=2, chunk=2)(query, z)

    return hk.without_apply_rng(hk.transform(model))

  @parameterized.parameters(
      (1, True, (2,)), (3, True, (3, 2)), (3, False, (6,))
  )
  def test_of_a_whole_model(self, num_blocks, share_blocks, layers):
    net = self.transform(num_blocks, share_blocks)

    @jax.jit
    def without_and_with_record(params, x):
      expected = net.apply(params, x)
      with record_attention() as weights:
        y = net.apply(params, x)
      return expected, y, weights

    x = normal(2, 11, 13)
    expected, y, weights = without_and_with_record(some_params(net, x), x)
    assert_near(y, expected)
    self.assertEqual(
        {path: array.shape for path, array in weights.items()},
        {
            "encoder/cross_attention/attention": (2, 1, 3, 11),
            "processor/layers/self_attention/attention": (*layers, 2, 5, 3, 3),
            "decoder/cross_attention/attention": (2, 2, 7, 3),
        },
    )
    for array in weights.values():
      np.testing.assert_allclose(array.sum(-1), 1.0, rtol=1e-5)

  def test_further_calls_of_a_module_are_numbered(self):
    encoder = {"num_latents": 3, "latent_channels": 10}
    processor = {"layers_per_block": 2, "num_blocks": 3, "num_heads": 5}
    net = hk.without_apply_rng(
        hk.transform(lambda x: RepeatedEncoder(encoder, processor, 3)(x))
    )

    def record(params, x):
      with record_attention() as weights:
        net.apply(params, x)
      return weights

    x = normal(2, 11, 13)
    paths = jax.eval_shape(record, some_params(net, x), x).keys()
    reads = [path for path in paths if "read_again" in path]
    self.assertEqual(
        [path.removeprefix("repeated_encoder/") for path in reads],
        ["read_again/attention", "read_again/attention#2"],
    )
    self.assertLen([path for path in paths if "processor" in path], 3)

  def test_making_parameters_records_no_more_than_a_call(self):
    net = self.transform(num_blocks=3, share_blocks=True)

    def record(function, *args):
      with record_attention() as weights:
        function(*args)
      return weights

    x = normal(2, 11, 13)
    params = some_params(net, x)
    make = functools.partial(record, net.init)
    call = functools.partial(record, net.apply)
    self.assertEqual(
        jax.eval_shape(make, jax.random.key(0), x),
        jax.eval_shape(call, params, x),
    )


if __name__ == "__main__":
  absltest.main()
