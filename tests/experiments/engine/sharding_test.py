"""Where arrays go, by their shapes alone."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec

from experiments.engine import sharding

MESH = AbstractMesh((4, 2), ("data", "context"))
BOTH = ("data", "context")


class OfStateTest(parameterized.TestCase):

  @parameterized.parameters(
      ((1024, 512), (BOTH, None)),
      ((512, 1024), (None, BOTH)),
      ((6, 1024, 1024), (None, BOTH, None)),  # A stack of 6 layers.
      ((1001, 512), (None, BOTH)),  # 8 does not divide the longest axis.
      ((1001, 509), (None, None)),
      ((128, 128), (None, None)),  # Too small to be worth it.
      ((), ()),
  )
  def test_large_arrays_split_along_their_longest_even_axis(self, shape, spec):
    array = jax.ShapeDtypeStruct(shape, jnp.float32)
    found = sharding.of_state({"w": array}, MESH, 2**18)["w"].spec
    self.assertEqual(found, PartitionSpec(*spec))


if __name__ == "__main__":
  absltest.main()
