"""The Transformers that the paper compares with."""

from absl.testing import absltest
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver import baselines

LAYERS, HEADS, WIDTH = 3, 2, 14


def transformer():
  net = hk.without_apply_rng(
      hk.transform(
          lambda x, mask: baselines.Transformer(LAYERS, HEADS)(x, mask)
      )
  )
  x = jax.random.normal(jax.random.key(1), (2, 5, WIDTH))
  return net, net.init(jax.random.key(0), x, None), x


def by_hand(x, params):
  """Every layer normalises after it has added, as Devlin et al. wrote it."""

  def norm(x, p):
    mean = x.mean(-1, keepdims=True)
    deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - mean) / deviation * p["scale"] + p["offset"]

  for i in range(LAYERS):
    p = {
        k.removeprefix("transformer/layers/"): jax.tree.map(
            lambda a, i=i: np.asarray(a[i]), v
        )
        for k, v in params.items()
    }
    linear = lambda name, x, p=p: x @ p[name]["w"] + p[name]["b"]
    q, k, v = (
        linear(f"attention/{n}", x).reshape(*x.shape[:2], HEADS, -1)
        for n in "qkv"
    )
    scores = np.einsum("bnhf,bmhf->bhnm", q, k) / np.sqrt(q.shape[-1])
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    read = np.einsum("bhnm,bmhf->bnhf", shares, v).reshape(x.shape)
    x = norm(x + linear("attention/output", read), p["norm_attention"])
    hidden = np.asarray(jax.nn.gelu(linear("mlp/hidden", x)))
    x = norm(x + linear("mlp/output", hidden), p["norm_mlp"])
  return x


class TransformerTest(absltest.TestCase):

  def test_equals_what_is_written_out_by_hand(self):
    net, params, x = transformer()
    y = net.apply(params, x, None)
    np.testing.assert_allclose(y, by_hand(np.asarray(x), params), atol=1e-5)

  def test_hidden_layers_are_four_times_as_wide(self):
    _, params, _ = transformer()
    self.assertEqual(
        params["transformer/layers/mlp/hidden"]["w"].shape,
        (LAYERS, WIDTH, 4 * WIDTH),
    )

  def test_what_is_masked_does_not_matter(self):
    net, params, x = transformer()
    mask = jnp.arange(5) < jnp.array([[3], [4]])
    y = net.apply(params, x, mask)
    other = net.apply(params, jnp.where(mask[:, :, None], x, 9.0), mask)
    np.testing.assert_array_equal(y[mask], other[mask])
    self.assertGreater(jnp.abs(net.apply(params, x, None) - y)[mask].max(), 0)


if __name__ == "__main__":
  absltest.main()
