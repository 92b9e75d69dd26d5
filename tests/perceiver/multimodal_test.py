"""Several arrays as one."""

from absl.testing import absltest
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver import multimodal

SIZES = {"sound": (5, 3), "video": (7, 11), "label": (1, 2)}


def arrays():
  rng = np.random.default_rng(0)
  return {
      name: jnp.asarray(rng.normal(size=(2, *size)), jnp.float32)
      for name, size in SIZES.items()
  }


def packed(masked=None):
  net = hk.without_apply_rng(
      hk.transform(lambda x, masked: multimodal.Pack(4, name="all")(x, masked))
  )
  params = net.init(jax.random.key(0), arrays(), masked)
  return net.apply(params, arrays(), masked), params


class MultimodalTest(absltest.TestCase):

  def test_all_are_as_wide_as_the_widest_and_its_padding(self):
    x, params = packed()
    self.assertEqual(x.shape, (2, 13, 15))
    self.assertEqual(
        {k.removeprefix("all/"): v["array"].shape for k, v in params.items()},
        {
            "sound_padding": (1, 12),
            "video_padding": (1, 4),
            "label_padding": (1, 13),
        },
    )

  def test_a_width_of_its_own_is_the_same_whichever_arrays_there_are(self):
    for names in (("sound",), ("sound", "label"), tuple(SIZES)):
      some = {name: arrays()[name] for name in names}
      net = hk.transform(lambda x: multimodal.Pack(channels=13)(x))
      params = net.init(jax.random.key(0), some)
      self.assertEqual(net.apply(params, None, some).shape[-1], 13)

  def test_a_width_without_room_for_the_modality_is_an_error(self):
    net = hk.transform(lambda x: multimodal.Pack(channels=11)(x))
    with self.assertRaisesRegex(ValueError, "'video' needs 12 channels"):
      net.init(jax.random.key(0), arrays())

  def test_channels_come_first_and_then_what_tells_the_modality(self):
    x, params = packed()
    parts = multimodal.unpack(x, {name: m for name, (m, _) in SIZES.items()})
    for name, given in arrays().items():
      channels = given.shape[-1]
      np.testing.assert_array_equal(parts[name][:, :, :channels], given)
      padding = params[f"all/{name}_padding"]["array"]
      for element in np.asarray(parts[name][:, :, channels:]).reshape(
          -1, 15 - channels
      ):
        np.testing.assert_array_equal(element, padding[0])

  def test_what_is_masked_is_the_same_vector_whatever_it_was(self):
    masked = {"video": jnp.arange(14).reshape(2, 7) % 3 == 0}
    x, params = packed(masked)
    parts = multimodal.unpack(x, {name: m for name, (m, _) in SIZES.items()})
    is_mask = (parts["video"] == params["all/video_mask"]["array"]).all(-1)
    np.testing.assert_array_equal(is_mask, masked["video"])
    self.assertNotIn("all/sound_mask", params)

  def test_hiding_what_is_not_there_is_an_error(self):
    with self.assertRaisesRegex(KeyError, "smell"):
      packed({"smell": jnp.ones([2, 1], bool)})

  def test_sizes_that_do_not_add_up_are_an_error(self):
    with self.assertRaisesRegex(ValueError, "13 elements"):
      multimodal.unpack(jnp.zeros([2, 13, 3]), {"a": 5, "b": 7})


if __name__ == "__main__":
  absltest.main()
