"""Attention by every implementation that a CPU can run.

Sizes: B examples, N queries, M keys, H heads, F features of queries and keys, V
of values.
"""

import contextlib
import functools
import itertools
import re
import subprocess
import sys
from unittest import mock

import haiku as hk
import jax
from jax._src.cudnn import fused_attention_stablehlo as library
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import attend_by
from perceiver import attended_by
from perceiver import compiled_for
from perceiver import Encoder
from perceiver import Processor
from perceiver.kernels import blocked
from perceiver.kernels import fused
from perceiver.kernels import softmax
from perceiver.target import Target
from tests.conftest import on_devices

# Of 3 queries and 11 keys: a rest of both, blocks of one, one block of all.
BLOCKS = [(2, 3), (1, 1), (512, 1024)]
near = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def normal(*shape):
  """Numbers that depend on the shape alone."""
  rng = np.random.default_rng(shape)
  return rng.normal(size=shape).astype(np.float32)


def some_qkv(b, n, m, h, f, v):
  return normal(b, n, h, f), normal(b, m, h, f), normal(b, m, h, v)


@contextlib.contextmanager
def computed_by(implementation, blocks):
  with mock.patch.dict(softmax._BLOCKS, {"cpu": blocks}):
    with attend_by(implementation):
      yield


def jitted():
  """Another function each time: JAX does not trace the same one again."""
  return jax.jit(lambda *args: softmax.attend(*args))


def with_gradients(attend, q, k, v, *mask):
  """What is read, and what a loss of it sends to q, k and v."""

  @jax.jit
  def both(q, k, v, *mask):
    y, derivative = jax.vjp(lambda *qkv: attend(*qkv, *mask), q, k, v)
    return y, *derivative(jnp.asarray(normal(*y.shape), y.dtype))

  return both(q, k, v, *mask)


plainly = jax.jit(functools.partial(with_gradients, softmax.plain))


@pytest.fixture(params=BLOCKS, ids=str)
def by_blocks(request):
  with computed_by("blocked", request.param):
    yield jitted()


@pytest.fixture(params=["plain", *BLOCKS], ids=str)
def attend(request):
  plain = request.param == "plain"
  how = ("plain", BLOCKS[0]) if plain else ("blocked", request.param)
  with computed_by(*how):
    yield jitted()


def test_is_a_softmax_of_scaled_products(attend):
  q, k, v = some_qkv(2, 3, 11, 5, 7, 13)
  q64, k64, v64 = (np.asarray(x, np.float64) for x in (q, k, v))
  expected = np.zeros([2, 3, 5, 13])
  for b, n, h in np.ndindex(2, 3, 5):
    weights = np.exp(k64[b, :, h] @ q64[b, n, h] / 7**0.5)
    expected[b, n, h] = weights @ v64[b, :, h] / weights.sum()
  np.testing.assert_allclose(attend(q, k, v), expected, atol=1e-6)


@pytest.mark.parametrize("heads", [1, 5])
@pytest.mark.parametrize("queries", [1, 3])
def test_what_is_masked_does_not_matter(attend, heads, queries):
  q, k, v = some_qkv(2, queries, 11, heads, 7, 13)
  mask = np.arange(11) < np.array([4, 9])[:, None, None]
  y = attend(q, k, v, mask)
  hidden = ~mask[:, 0, :, None, None]
  other = attend(q, k + 9.0 * hidden, v - 1e9 * hidden, mask)
  np.testing.assert_array_equal(y, other)
  for b, count in enumerate((4, 9)):
    one = slice(b, b + 1)
    short = attend(q[one], k[one, :count], v[one, :count])
    np.testing.assert_allclose(y[one], short, atol=1e-6)


def test_a_query_that_may_see_no_key_reads_zero(attend):
  q, k, v = some_qkv(1, 3, 7, 2, 5, 11)
  mask = np.array([True, False, True])[None, :, None]
  y = attend(q, k, v, mask)
  np.testing.assert_array_equal(y[:, 1], 0.0)
  seen = attend(q, k, v)
  np.testing.assert_allclose(y[:, ::2], seen[:, ::2], atol=1e-6)


def test_gradients_are_finite_where_no_key_may_be_seen(attend):
  q, k, v = some_qkv(1, 3, 7, 2, 5, 11)
  mask = np.ones([1, 3, 7], bool)
  mask[:, 1] = mask[:, :, 4] = False
  _, to_q, to_k, to_v = with_gradients(attend, q, k, v, mask)
  for unseen in (to_q[:, 1], to_k[:, 4], to_v[:, 4]):
    np.testing.assert_array_equal(unseen, 0.0)
  keys = np.arange(7) != 4
  for gradient in (to_q[:, ::2], to_k[:, keys], to_v[:, keys]):
    assert np.isfinite(gradient).all()
    assert (gradient != 0).all()


def test_keys_are_a_set(attend):
  q, k, v = some_qkv(2, 3, 11, 5, 7, 13)
  mask = normal(2, 3, 11) < 0.5
  order = np.random.default_rng(0).permutation(11)
  y = attend(q, k, v, mask)
  permuted = attend(q, k[:, order], v[:, order], mask[:, :, order])
  np.testing.assert_allclose(y, permuted, atol=1e-6)


def test_queries_do_not_see_each_other(attend):
  q, k, v = some_qkv(2, 3, 11, 5, 7, 13)
  y = attend(q, k, v)
  moved = np.array([0.0, 1.0, 0.0], np.float32)[:, None, None]
  change = np.asarray(attend(q + moved, k, v) - y)
  np.testing.assert_array_equal(change[:, ::2], 0.0)
  assert (change[:, 1] != 0.0).all()


# The largest score comes first, last, or between; or there is but a low one.
@pytest.mark.parametrize(
    "scores", [(1, 0, -1), (-1, 0, 1), (-1, 1, 0), (-1, -1, -1)]
)
def test_scores_too_large_for_an_exponential_do_not_overflow(attend, scores):
  scores = np.asarray(scores, np.float32)
  q, k = np.full([1, 5, 1, 1], 100.0), 100 * scores[None, :, None, None]
  v, highest = normal(1, 3, 1, 7), scores == scores.max()
  y, *gradients = with_gradients(attend, q.astype(np.float32), k, v)
  expected = np.broadcast_to(v[:, highest].mean(1, keepdims=True), y.shape)
  np.testing.assert_allclose(y, expected, atol=1e-6)
  for gradient in gradients:
    assert np.isfinite(gradient).all()
  np.testing.assert_array_equal(gradients[2][:, ~highest], 0.0)
  assert (gradients[2][:, highest] != 0).all()


@pytest.mark.parametrize(
    "shape", [None, (2, 1, 11), (2, 3, 1), (1, 3, 11), (2, 3, 11)], ids=str
)
def test_blocks_give_the_values_and_gradients_of_the_whole(by_blocks, shape):
  q, k, v = some_qkv(2, 3, 11, 5, 7, 13)
  masks = []
  if shape:
    mask = normal(*shape) < 0.3
    mask[0, 1 % shape[1]] = False  # It may see nothing.
    assert mask.any()
    masks = [mask]
  ours = with_gradients(by_blocks, q, k, v, *masks)
  for x, expected in zip(ours, plainly(q, k, v, *masks), strict=True):
    near(x, expected)
  if shape:
    unseen = ~np.broadcast_to(mask, [2, 3, 11]).any(-1)
    assert unseen.any()
    for x in ours[:2]:  # What is read, and the gradient of q.
      np.testing.assert_array_equal(x[unseen], 0.0)


# Inside another: what each makes of a function over one more axis.
TRANSFORMS = {
    "vmap": jax.vmap,
    "scan": lambda f: lambda *xs: (
        jax.lax.scan(lambda _, xs: (None, f(*xs)), None, xs)[1]
    ),
    "checkpoint": jax.checkpoint,
}


@pytest.mark.parametrize(
    "order", ["checkpoint vmap scan", "scan checkpoint vmap"]
)
def test_transformations_of_jax_change_nothing(attend, order):
  args = *some_qkv(6, 3, 11, 5, 7, 13), normal(6, 3, 11) < 0.5
  whole = plainly(*args)
  function = attend
  for name in order.split():
    function = TRANSFORMS[name](function)
  split = [x.reshape(2, 3, 1, *x.shape[1:]) for x in args]
  *qkv, mask = split

  def both(*qkv):
    y, derivative = jax.vjp(lambda *qkv: function(*qkv, mask), *qkv)
    return y, *derivative(normal(*whole[0].shape).reshape(y.shape))

  for x, expected in zip(jax.jit(both)(*qkv), whole, strict=True):
    near(x.reshape(expected.shape), expected)


def test_bfloat16_stays_bfloat16_and_near_float32(attend):
  half = [jnp.asarray(x, jnp.bfloat16) for x in some_qkv(2, 3, 11, 5, 7, 13)]
  ours = with_gradients(attend, *half)
  exact = plainly(*(x.astype(jnp.float32) for x in half))
  for x, expected in zip(ours, exact, strict=True):
    assert x.dtype == jnp.bfloat16
    error = np.std(np.asarray(x, np.float32) - expected)
    assert error < 0.01 * np.std(expected)


def test_sums_are_exact_in_bfloat16(attend):
  # By itself bfloat16 counts to 256: 256 + 1 is 256.
  q, k = (jnp.zeros([1, n, 1, 2], jnp.bfloat16) for n in (3, 4096))
  v = jnp.asarray(np.arange(4096) % 2, jnp.bfloat16)[None, :, None, None]
  y = attend(q, k, v)
  np.testing.assert_array_equal(y.astype(jnp.float32), 0.5)
  ones = jnp.ones([1, 4096, 1, 1], jnp.bfloat16)
  (to_v,) = jax.vjp(lambda v: attend(k, q, v), ones[:, :3])[1](ones)
  # Each of 3 values is a third, in bfloat16, of what 4096 queries read.
  np.testing.assert_allclose(to_v.astype(jnp.float32), 4096 / 3, rtol=0.004)


def test_the_plain_form_multiplies_in_bfloat16_forward_and_backward():
  q, k, v = (
      jnp.ones([2, n, 3, f], jnp.bfloat16)
      for n, f in ((5, 7), (11, 7), (11, 13))
  )
  mask = jnp.ones([2, 1, 11], bool)
  loss = lambda q, k, v: softmax.plain(q, k, v, mask).astype("float32").sum()
  text = str(jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(q, k, v))
  operands = re.findall(r"dot_general\[.*?\] (\w+) (\w+)", text, re.DOTALL)
  assert len(operands) == 6
  for name in itertools.chain.from_iterable(operands):
    assert f"{name}:bf16[" in text


def temporary_bytes(function, keys):
  shapes = [
      jax.ShapeDtypeStruct((1, length, 1, 8), jnp.float32)
      for length in (1024, keys, keys)
  ]
  compiled = jax.jit(function).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("gradient", [False, True])
def test_only_the_plain_form_holds_all_scores(gradient):
  taken, scores = {}, 4 * 1024 * 16384
  for name in ("plain", "blocked"):
    for keys in (16384, 32768):
      loss = lambda *qkv: softmax.attend(*qkv).sum()
      if gradient:
        loss = jax.grad(loss, argnums=(0, 1, 2))
      with attend_by(name):
        taken[name, keys] = temporary_bytes(loss, keys)
  assert taken["plain", 16384] >= scores
  assert taken["blocked", 16384] < scores / 4
  assert taken["blocked", 32768] <= 2.5 * taken["blocked", 16384]


@pytest.mark.parametrize(
    ("length", "most", "size"),
    [
        (50176, 1024, 1024),
        (52097, 1024, 883),
        (182528, 1024, 992),
        (10007, 1024, 1024),  # A prime.
        (7, 1024, 7),
        (1026, 1024, 513),
        (512 * 1031, 1024, 1024),  # Not 512: just half.
    ],
)
def test_blocks_are_equal_unless_that_halves_them(length, most, size):
  assert blocked.block_size(length, most) == size


SHARDED = """
import jax, numpy as np
from experiments.engine import sharding
from perceiver.kernels import blocked

rng = np.random.default_rng(0)
arrays = [rng.normal(size=[8, n, 3, 5]).astype("float32") for n in (7, 11, 11)]
mask = rng.normal(size=[8, 7, 11]) < 0.5
loss = lambda *qkvm: (blocked.attend(*qkvm, queries=4, keys=3) ** 2).sum()
gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
expected = gradient(*arrays, mask)
assert jax.device_count() == {devices}
explicit = jax.make_mesh(({devices},), ("data",))
for mesh in (sharding.make_mesh(), explicit):
  split = jax.device_put((*arrays, mask), sharding.of_batch(mesh))
  for ours, one in zip(gradient(*split), expected):
    assert ours.addressable_shards[0].data.shape[0] == 8 // {devices}
    np.testing.assert_allclose(ours, one, rtol=1e-5, atol=1e-5)
  program = gradient.lower(*split).compile().as_text()
  for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
    assert word not in program, word  # No example needs another's.
"""


IN_PARTS = """
import jax
import jax.numpy as jnp
import numpy as np
from experiments.engine import sharding
from perceiver import laid_out_by
from perceiver.kernels import softmax
from perceiver.target import Target

rng = np.random.default_rng(0)
q, k, v, weights = (
    jnp.asarray(rng.normal(size=[2, n, 3, f]), jnp.float32)
    for n, f in ((20, 7), (44, 7), (44, 13), (20, 13))
)
mask = rng.normal(size=[2, 20, 44]) < 0.5
mask[0, 3] = False  # A query that may see no key,
mask[1, :, 11:22] = False  # and a part of the keys that no query may see.

def run(attend, mask):
  loss = lambda *qkv: (attend(*qkv, mask) * weights).sum()
  value = jax.jit(lambda *qkv: attend(*qkv, mask))(q, k, v)
  return value, *jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(q, k, v)

for mask in (None, jnp.asarray(mask), jnp.asarray(mask[:1, :1])):
  expected = run(softmax.plain, mask)
  for shape in ((1, 4), (2, 2)):
    mesh = sharding.make_mesh(4, shape[1])
    with laid_out_by(sharding.Layout(mesh)):
      found = run(softmax.attend, mask)
    for ours, plain in zip(found, expected):
      np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)
"""


def test_parts_of_queries_and_keys_read_what_the_whole_does():
  subprocess.run(
      [sys.executable, "-c", IN_PARTS],
      env=on_devices(4),
      check=True,
      timeout=240,
  )


@pytest.mark.parametrize("devices", [2, 4])
def test_blocks_of_a_batch_that_is_split_over_devices(devices):
  subprocess.run(
      [sys.executable, "-c", SHARDED.format(devices=devices)],
      env=on_devices(devices),
      check=True,
      timeout=120,
  )


def shapes(b=1, n=256, m=512, h=1, f=64, v=64, dtype="bfloat16", mask=None):
  """(q, k, v, mask) without values."""
  q, k, v = (
      jax.ShapeDtypeStruct((b, length, h, width), dtype)
      for length, width in ((n, f), (m, f), (m, v))
  )
  return q, k, v, mask and jax.ShapeDtypeStruct(mask, bool)


def test_an_unknown_implementation_is_refused():
  with pytest.raises(ValueError, match="'flash' is not one of"):
    with attend_by("flash"):
      pytest.fail("It was accepted.")


@pytest.mark.parametrize(
    ("nested", "taken"),
    [
        (("plain",), "plain"),
        (("auto", "plain"), "plain"),
        (("plain", "auto"), "plain"),
        (("plain", "blocked"), "plain"),
        (("auto", "plain", "auto", "blocked"), "plain"),
    ],
)
def test_the_outermost_that_says_so_wins(nested, taken):
  assert softmax._choose(*shapes()) == "blocked"
  with contextlib.ExitStack() as stack:
    for name in nested:
      stack.enter_context(attend_by(name))
    assert softmax._choose(*shapes()) == taken
  assert softmax._choose(*shapes()) == "blocked"


@pytest.mark.parametrize(("name", "why"), [("cudnn", "GPU"), ("tpu", "TPU")])
def test_a_cpu_says_why_it_has_no_kernels(name, why):
  x = jnp.zeros([1, 128, 1, 64], jnp.bfloat16)
  with attend_by(name):
    with pytest.raises(ValueError, match=f"'{name}' .* there is no {why}"):
      softmax.attend(x, x, x)


def target(platform, devices=1, capability=9.0, gibibytes=16):
  return Target(platform, devices, capability, gibibytes * 2**30)


HUGE = {"n": 2048, "m": 182528}  # Its scores take 1.4 GiB, an even number.


@pytest.mark.parametrize(
    ("where", "what", "taken"),
    [
        ({}, {}, "cudnn"),
        ({}, HUGE, "cudnn"),
        ({}, {"n": 255, "m": 509}, "cudnn"),
        ({}, {"f": 256}, "cudnn"),
        ({}, {"f": 261}, "plain"),
        ({}, {"f": 261, **HUGE}, "blocked"),
        ({"capability": 8.0}, {"f": 128}, "cudnn"),
        ({"capability": 8.0}, {"f": 160, "v": 32}, "plain"),
        ({"capability": 8.0}, {"f": 32, "v": 160}, "plain"),
        ({}, {"dtype": "float32"}, "plain"),
        ({}, {"dtype": "float32", **HUGE}, "blocked"),
        ({}, {"mask": (1, 1, 512)}, "cudnn"),
        ({}, {"m": 509, "mask": (1, 1, 509)}, "cudnn"),
        ({}, {"n": 255, "mask": (1, 1, 512)}, "cudnn"),
        ({}, {"mask": (1, 1, 182528), **HUGE}, "blocked"),
        # What is huge depends on the memory and on how many share it.
        ({"gibibytes": 80}, {"dtype": "float32", **HUGE}, "plain"),
        ({"devices": 4}, {"dtype": "float32", **HUGE}, "plain"),
        ({"devices": 4}, {"dtype": "float32", "b": 4, **HUGE}, "blocked"),
        ({"devices": 4}, {"dtype": "float32", "h": 4, **HUGE}, "blocked"),
        ({"platform": "tpu"}, {}, "plain"),  # It is as fast.
        ({"platform": "tpu"}, {"n": 512, "dtype": "float32"}, "tpu"),
        ({"platform": "tpu"}, HUGE, "tpu"),
        ({"platform": "tpu"}, {"n": 784, "m": 52097, "f": 704}, "plain"),
        ({"platform": "tpu"}, {"n": 784, "m": 52097, "f": 704, "b": 31}, "tpu"),
        ({"platform": "tpu"}, {"n": 512, "m": 50176, "f": 261}, "tpu"),
        ({"platform": "tpu"}, {"n": 256, "m": 2048}, "plain"),
        ({"platform": "tpu"}, {"n": 256, "m": 4096}, "tpu"),
        ({"platform": "tpu"}, {"n": 512, "mask": (1, 1, 512)}, "tpu"),
        ({"platform": "tpu"}, {"n": 512, "mask": (1, 512, 1)}, "tpu"),
        ({"platform": "tpu"}, {"n": 512, "mask": (1, 512, 512)}, "plain"),
        ({"platform": "tpu", "devices": 4}, {"n": 512}, "plain"),
        ({"platform": "tpu", "devices": 4}, {"b": 4, **HUGE}, "blocked"),
        ({"platform": "cpu"}, {}, "blocked"),
    ],
    ids=str,
)
def test_what_is_taken_where_nothing_is_asked_for(where, what, taken):
  with compiled_for(target(**{"platform": "gpu", **where})):
    assert softmax._choose(*shapes(**what)) == taken


def test_each_module_says_what_computes_its_attention():
  def model(x):
    z = Encoder(num_latents=5, latent_channels=16)(x)
    return Processor(layers_per_block=3, num_blocks=2, num_heads=4)(z)

  net = hk.without_apply_rng(hk.transform(model))
  x = jax.ShapeDtypeStruct((2, 1021, 7), jnp.float32)
  params = jax.eval_shape(net.init, jax.random.key(0), x)
  calls = []
  choose = lambda *args: calls.append(args) or "plain"
  with attended_by() as taken:
    with mock.patch.object(softmax, "_choose", choose):
      jax.eval_shape(net.apply, params, x)
  assert taken == {
      "encoder/cross_attention/attention": "plain, 5 × 1,021",
      "self_attention/attention": "plain, 5 × 5",  # In its own transform.
  }
  assert len(calls) == 2  # The program has one layer, however deep it is.


def test_attention_without_a_module_is_collected_by_the_innermost():
  x = jnp.zeros([1, 2, 3, 5])
  with attend_by("plain"), attended_by() as outer:
    with attended_by() as inner:
      softmax.attend(x, x, x)
    assert not outer
    softmax.attend(x[:, :1], x, x)
  assert inner == {"attend": "plain, 2 × 2"}
  assert outer == {"attend": "plain, 1 × 2"}


@pytest.mark.parametrize(
    "shape", [None, (1, 1, 11), (2, 3, 1), (2, 3, 11)], ids=str
)
@pytest.mark.parametrize("widths", [(5, 17), (13, 3)])
@pytest.mark.parametrize("capability", [8.0, 9.0])
def test_cudnn_is_given_heads_and_masks_that_it_can_take(
    shape, widths, capability
):
  qkv = some_qkv(2, 3, 11, 5, *widths)
  masks = []
  if shape:
    mask = normal(*shape) < 0.3
    mask[0, 1 % shape[1], 1:] = False
    mask[-1, -1] = False  # It may see nothing.
    masks = [mask]
  given = []

  def on_a_cpu(q, k, v, *, scale, mask_type, mask=None, **padding):
    given.append(v.shape[-1])
    assert q.shape[-1] == k.shape[-1] and q.shape[1] % 2 == k.shape[1] % 2 == 0
    assert q.shape[-1] % 8 == v.shape[-1] % 8 == 0
    assert capability >= 9 or q.shape[-1] == v.shape[-1]
    if padding:
      assert mask is None and mask_type == library.MaskType.PADDING
      lengths = padding["kv_seqlen"]
      mask = jnp.arange(k.shape[1]) < lengths[:, None, None, None]
    mask = mask if mask is None else mask[:, 0]
    return softmax.plain(q, k, v, mask, scale=scale)

  with mock.patch.object(library, "dot_product_attention", on_a_cpu):
    with compiled_for(target("gpu", capability=capability)):
      ours = with_gradients(fused.cudnn, *qkv, *masks)
  alone, common = {(5, 17): (24, 24), (13, 3): (8, 16)}[widths]
  assert given == [alone if capability >= 9 else common]
  for x, expected in zip(ours, plainly(*qkv, *masks), strict=True):
    near(x, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["k", "v", "constants"])
@pytest.mark.parametrize("implementation", ["plain", "blocked"])
def test_what_no_query_may_see_changes_nothing(implementation, name, bad):
  rng = np.random.default_rng(0)
  normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  given = {
      "q": normal(2, 5, 3, 4),
      "k": normal(2, 7, 3, 4),
      "v": normal(2, 7, 3, 6),
      "constants": normal(2, 7, 3),
  }
  mask = np.ones([2, 5, 7], bool)
  mask[:, :, 4:] = mask[1, 2:, 0] = False

  def read(arrays, mask):
    with attend_by(implementation):
      y = softmax.attend(**arrays, mask=jnp.asarray(mask))
    return jnp.sin(y).sum(), y

  for some in (mask, mask[:, :1]):
    run = jax.value_and_grad(lambda x, m=some: read(x, m), has_aux=True)
    expected = run(given)
    broken = {**given, name: given[name].copy()}
    broken[name][:, 4:] = bad
    found = run(broken)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert not np.asarray(found[1]["k"])[:, 4:].any()
