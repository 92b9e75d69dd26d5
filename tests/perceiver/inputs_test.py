from absl.testing import absltest
from absl.testing import parameterized
import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import TypeCheckError
import numpy as np

from perceiver import compiled_for
from perceiver import inputs
from perceiver import position
from perceiver.target import Target


def normal(*shape):
  """Numbers that depend on the shape alone."""
  rng = np.random.default_rng(shape)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


class FlattenTest(parameterized.TestCase):

  def test_is_row_major(self):
    x = jnp.arange(12.0).reshape(1, 2, 3, 2)
    expected = [[[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]]
    np.testing.assert_array_equal(inputs.flatten(x), expected)


class WithPositionsTest(parameterized.TestCase):

  def test_come_after_the_channels_the_same_for_every_example(self):
    x = jnp.asarray([[[1.0], [2.0]], [[3.0], [4.0]]])
    pos = jnp.asarray([[[-1.0, 5.0], [1.0, 6.0]]])
    expected = [[[1, -1, 5], [2, 1, 6]], [[3, -1, 5], [4, 1, 6]]]
    np.testing.assert_array_equal(inputs.with_positions(x, pos), expected)

  def test_are_the_same_on_a_tpu_as_are_gradients(self):
    x, pos, weights = normal(3, 5, 2), normal(1, 5, 7), normal(3, 5, 9)

    def loss(x, pos):
      array = inputs.with_positions(x, pos)
      return (weights * array).sum(), array

    found = []
    for platform in ("cpu", "tpu"):
      with compiled_for(Target(platform)):
        found.append(jax.grad(loss, (0, 1), has_aux=True)(x, pos))
    jax.tree.map(np.testing.assert_array_equal, *found)

  def test_take_the_dtype_of_the_channels(self):
    x = jnp.zeros([2, 3, 5], jnp.bfloat16)
    array = inputs.with_positions(x, jnp.zeros([2, 3, 7]))
    self.assertEqual(array.dtype, jnp.bfloat16)

  def test_another_number_of_positions_names_its_axis(self):
    with self.assertRaisesRegex(TypeCheckError, "(?s)parameter 'pos'.*M=3"):
      inputs.with_positions(jnp.zeros([2, 3, 5]), jnp.zeros([1, 7, 2]))


class PixelsTest(parameterized.TestCase):

  @parameterized.parameters((7,), (5, 3), (2, 5, 3), (2, 5, 3, 7))
  def test_any_number_of_index_dimensions(self, *dims):
    image = normal(2, *dims, 13)
    x = np.asarray(inputs.pixels(image, 4))
    self.assertEqual(x.shape, (2, np.prod(dims), 13 + len(dims) * 9))
    np.testing.assert_array_equal(x[..., :13], inputs.flatten(image))
    features = position.fourier_features(position.grid(dims), 4, dims)
    np.testing.assert_array_equal(x[0, :, 13:], features)
    np.testing.assert_array_equal(x[1, :, 13:], features)

  def test_another_resolution(self):
    image = jnp.zeros([1, 3, 1])
    x = inputs.pixels(image, 2, max_resolution=[8])
    # Pixels at -1, 0 and 1; frequencies 1 and 4.
    expected = [[0, -1, 0, 0, -1, 1], [0] * 4 + [1, 1], [0, 1, 0, 0, -1, 1]]
    np.testing.assert_allclose(x[0], expected, atol=1e-6)

  def test_a_resolution_is_needed_for_every_axis(self):
    with self.assertRaisesRegex(ValueError, "1 axes for positions that have 2"):
      inputs.pixels(jnp.zeros([1, 3, 5, 1]), 2, max_resolution=[8])


class LearnedPositionsTest(parameterized.TestCase):

  def test_pixels_and_positions_are_projected(self):
    net = hk.without_apply_rng(hk.transform(inputs.learned_positions))
    image = normal(2, 3, 5, 7)
    init = lambda rng, image: net.init(rng, image, 11)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    params = jax.tree.map(lambda x: normal(*x.shape), shapes)
    expected_shapes = {
        "pixels": {"w": (7, 11), "b": (11,)},
        "positions": {"array": (15, 11)},
        "project_positions": {"w": (11, 11), "b": (11,)},
    }
    shapes = jax.tree.map(lambda x: x.shape, shapes)
    self.assertEqual(shapes, expected_shapes)

    x = net.apply(params, image, 11)
    weights = jax.tree.map(np.asarray, params)
    pixels, project = weights["pixels"], weights["project_positions"]
    pos = weights["positions"]["array"] @ project["w"] + project["b"]
    for i in range(2):
      channels = np.asarray(image[i]).reshape(15, 7) @ pixels["w"] + pixels["b"]
      expected = np.concatenate([channels, pos], axis=-1)
      np.testing.assert_allclose(x[i], expected, atol=1e-5)


class PointsTest(parameterized.TestCase):

  def test_each_coordinate_has_frequencies_up_to_the_highest(self):
    pos = jnp.asarray([[[0.5, -1.0]], [[0.0, 0.25]]])
    x = inputs.points(pos, 2, 2)  # Half cycles: 1 and 2 a unit.
    r = 0.5**0.5
    sines = [[1, 0, 0, 0], [0, 0, r, 1]]
    cosines = [[0, -1, -1, 1], [1, 1, r, 0]]
    expected = np.concatenate([pos[:, 0], sines, cosines], axis=-1)
    np.testing.assert_allclose(x[:, 0], expected, atol=1e-6)

  def test_points_do_not_see_each_other(self):
    pos = jnp.tanh(normal(2, 7, 3))
    x = inputs.points(pos, 5, 1120)
    self.assertEqual(x.shape, (2, 7, 33))
    np.testing.assert_array_equal(
        inputs.points(pos[:, ::-1], 5, 1120), x[:, ::-1]
    )

  def test_are_the_pixels_positions_on_their_grid(self):
    grid = position.grid([3, 5])
    expected = position.fourier_features(grid, 4, [14, 14])
    np.testing.assert_allclose(
        inputs.points(grid[None], 4, 7)[0], expected, atol=1e-6
    )


if __name__ == "__main__":
  absltest.main()
