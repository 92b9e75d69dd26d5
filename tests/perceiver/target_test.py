import types

import jax
import pytest

from perceiver import attend
from perceiver import attended_by
from perceiver import compiled_for
from perceiver import orders
from perceiver import target as targets
from perceiver.context import current_target
from perceiver.target import Target


def device(**settings):
  """Neither attached nor of a data sheet, unless it is said."""

  def unknown():
    raise jax.errors.JaxRuntimeError("It is not attached.")

  return types.SimpleNamespace(
      **{"platform": "tpu", "device_kind": "new", "memory_stats": unknown}
      | settings
  )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"device_kind": "TPU v4"}, Target("tpu", 3, 0.0, 32 * 10**9)),
        ({}, Target("tpu", 3, 0.0, 16 * 2**30)),
        (
            {"platform": "cuda", "compute_capability": "8.6"},
            Target("gpu", 3, 8.6, 16 * 2**30),
        ),
        (
            {
                "device_kind": "TPU v4",
                "memory_stats": lambda: {"bytes_limit": 7},
            },
            Target("tpu", 3, 0.0, 7),
        ),
        ({"memory_stats": lambda: None}, Target("tpu", 3, 0.0, 16 * 2**30)),
    ],
    ids=["a sheet", "nothing", "a GPU", "the device", "a device without"],
)
def test_what_devices_say_of_themselves(settings, expected):
  assert targets.of([device(**settings)] * 3) == expected


def test_without_a_word_jaxs_own_devices_are_the_target():
  assert current_target() == targets.of(jax.devices())
  with compiled_for(Target("tpu")):
    with compiled_for(Target("gpu")):
      assert current_target().platform == "gpu"
    assert current_target().platform == "tpu"
  assert current_target().platform == "cpu"


def test_the_target_decides_what_attention_and_products_are():
  sizes = orders.Sizes(512, 50176, 1024, 261, 1, 261, 261, 1024)
  x = jax.ShapeDtypeStruct((1, 128, 1, 64), "float32")

  def taken(platform):
    with compiled_for(Target(platform)):
      with attended_by() as by:
        jax.eval_shape(lambda x: attend(x, x, x), x)  # Not cached.
      return by["attend"].split(",")[0], orders.cheapest(sizes)

  assert taken("cpu") == ("blocked", orders.cheapest(sizes, "cpu"))
  assert taken("gpu") == ("plain", orders.cheapest(sizes, "gpu"))
