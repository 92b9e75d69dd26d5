"""Choosing a piece by its name and settings."""

from absl.testing import absltest

from experiments.engine.choose import choose


def conv(image, channels, stride=1):
  return image, channels, stride


def pixels(image):
  return image


class ChooseTest(absltest.TestCase):

  def test_the_settings_are_bound_and_the_rest_is_given_later(self):
    read = choose((conv, pixels), {"name": "conv", "channels": 7})
    self.assertEqual(read("x"), ("x", 7, 1))

  def test_an_unknown_name_lists_the_known_ones(self):
    with self.assertRaisesRegex(
        KeyError, r"'cnov' is not one of \['conv', 'pixels'\]"
    ):
      choose((conv, pixels), {"name": "cnov"})

  def test_an_unknown_setting_names_the_closest(self):
    with self.assertRaisesRegex(TypeError, "Did you mean 'channels'"):
      choose((conv,), {"name": "conv", "chanels": 7})

  def test_a_setting_that_is_missing_shows_when_it_is_called(self):
    with self.assertRaisesRegex(TypeError, "channels"):
      choose((conv,), {"name": "conv"})("x")


if __name__ == "__main__":
  absltest.main()
