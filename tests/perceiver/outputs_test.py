"""From the output array to predictions."""

from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver import outputs


def upsampled_by_loops(flow, weights, factor):
  """The definition: each fine pixel mixes its 3 x 3 coarse neighbours."""
  height, width, _ = flow.shape
  fine = np.zeros((height * factor, width * factor, 2))
  for y in range(height * factor):
    for x in range(width * factor):
      row, i = divmod(y, factor)
      column, j = divmod(x, factor)
      logits = weights[row, column].reshape(9, factor, factor)[:, i, j]
      shares = np.exp(logits) / np.exp(logits).sum()
      for n, share in enumerate(shares):
        r, c = row + n // 3 - 1, column + n % 3 - 1
        if 0 <= r < height and 0 <= c < width:
          fine[y, x] += share * factor * flow[r, c]
  return fine


class RaftUpsampleTest(parameterized.TestCase):

  @parameterized.parameters(2, 4)
  def test_equals_plain_loops(self, factor):
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(2, 3, 5, 2)).astype(np.float32)
    weights = rng.normal(size=(2, 3, 5, 9 * factor**2)).astype(np.float32)
    fine = outputs.raft_upsample(
        jnp.asarray(flow), jnp.asarray(weights), factor
    )
    for i in range(2):
      expected = upsampled_by_loops(flow[i], weights[i], factor)
      np.testing.assert_allclose(fine[i], expected, atol=1e-5)

  def test_a_constant_flow_stays_constant_away_from_the_border(self):
    flow = jnp.broadcast_to(jnp.array([1.5, -2.0]), (1, 5, 7, 2))
    weights = jax.random.normal(jax.random.key(0), (1, 5, 7, 9 * 16))
    fine = outputs.raft_upsample(flow, weights, 4)[0, 4:-4, 4:-4]
    np.testing.assert_allclose(
        fine, np.broadcast_to([6.0, -8.0], fine.shape), rtol=1e-5
    )


class LogitsTest(absltest.TestCase):

  def test_tokens_share_their_embeddings_and_have_a_bias_each(self):
    y, table = jnp.ones([2, 3, 5]), jnp.arange(35.0).reshape(7, 5)
    net = hk.without_apply_rng(hk.transform(outputs.tied_tokens))
    params = net.init(jax.random.key(0), y, table)
    self.assertEqual(jax.tree.map(jnp.shape, params), {"logits": {"b": (7,)}})
    logits = net.apply({"logits": {"b": jnp.arange(7.0)}}, y, table)
    expected = table.sum(1) + jnp.arange(7.0)
    np.testing.assert_allclose(logits[1, 2], expected)


if __name__ == "__main__":
  absltest.main()
