import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver import sampling

LOGITS = np.log(np.array([0.4, 0.1, 0.3, 0.2], np.float32))


def shares(choice, draws=4000):
  """How often each id is drawn."""
  logits = jnp.broadcast_to(jnp.asarray(LOGITS), (draws, 4))
  ids = sampling.draw(logits, jax.random.key(0), choice)
  return np.bincount(ids, minlength=4) / draws


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (sampling.Choice(), [0.4, 0.1, 0.3, 0.2]),
        (sampling.Choice(temperature=0.0), [1, 0, 0, 0]),
        (sampling.Choice(0.5), np.array([16, 1, 9, 4]) / 30),
        (sampling.Choice(top_k=2), [4 / 7, 0, 3 / 7, 0]),
        (sampling.Choice(top_k=9), [0.4, 0.1, 0.3, 0.2]),
        (sampling.Choice(top_p=0.69), [4 / 7, 0, 3 / 7, 0]),
        (sampling.Choice(top_p=0.71), [4 / 9, 0, 3 / 9, 2 / 9]),
        (sampling.Choice(top_p=0.0), [1, 0, 0, 0]),
        (sampling.Choice(top_k=3, top_p=0.5), [4 / 7, 0, 3 / 7, 0]),
    ],
    ids=str,
)
def test_ids_are_drawn_as_often_as_asked(choice, expected):
  np.testing.assert_allclose(shares(choice), expected, atol=0.03)
  unlikely = np.asarray(expected) == 0
  assert not shares(choice)[unlikely].any()
