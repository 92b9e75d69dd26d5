"""Every config and every variant builds, at full size, without data."""

import importlib
import re

import jax
import pytest

from experiments.engine.build import build
from experiments.engine.build import build_network
from experiments.engine.errors import UserError
from tests.conftest import ROOT

FOLDER = ROOT / "configs"
NAMES = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem not in ("__init__", "base", "tables")
)
# The others have a model alone.
PARAMETERS = {
    "audioset:raw": 24_922_462,
    "audioset:mel": 86_568_413,
    "audioset:perceiver_raw": 20_971_870,
    "audioset:perceiver_mel": 20_971_997,
    "audioset:raw_audio": 24_351_582,
    "audioset:mel_audio": 85_404_921,
    "audioset:video": 24_922_232,
    "audioset:mini_raw": 622_425,
    "audioset:mini_mel": 622_465,
    "audioset:mini_audio": 584_121,
    "audioset:mini_mel_audio": 560_721,
    "audioset:mini_video": 622_371,
    "audioset:mini_perceiver_raw": 522_457,
    "audioset:mini_perceiver_mel": 522_497,
    "audioset:tiny": 355_600,
    "audioset:tiny_mel": 355_727,
    "flow:patches": 41_057_134,
    "flow:patches_separate": 41_720_272,
    "flow:pixels": 41_054_062,
    "flow:pixels_separate": 41_718_736,
    "flow:conv": 41_102_074,
    "flow:conv_separate": 41_765_530,
    "flow:conv_small": 27_953_914,
    "flow:mini": 650_234,
    "flow:mini_patches": 617_198,
    "flow:mini_patches_separate": 671_504,
    "flow:mini_pixels": 614_126,
    "flow:mini_pixels_separate": 669_968,
    "flow:mini_conv_separate": 698_906,
    "flow:tiny": 8_814,
    "glue:multitask_queries": 204_278_288,
    "glue:multitask_shared_token": 204_273_680,
    "glue:multitask_task_tokens": 204_279_056,
    **{
        f"glue:{task}": 200_128_002
        for task in ("cola", "mrpc", "qnli", "qqp", "rte", "sst2")
    },
    "glue:mnli": 200_128_771,
    "glue:stsb": 200_127_233,
    "glue:bytes_plus_plus_cola": 424_627_202,
    "glue:sentencepiece_cola": 223_323_138,
    "glue:bytes_128_cola": 429_152_002,
    "glue:bytes_512_cola": 104_869_634,
    "glue:bert_base_cola": 110_617_346,
    "glue:bert_bytes_cola": 20_361_730,
    "glue:tiny_cola": 8_990,
    "glue:mini_cola": 1_452_034,
    "glue:mini_16_stsb": 1_786_385,
    "glue:mini_64_multitask_task_tokens": 1_321_239,
    "imagenet:fourier": 48_440_627,
    "imagenet:learned": 62_255_848,
    "imagenet:conv": 48_646_522,
    "imagenet:perceiver_fourier": 42_135_859,
    "imagenet:perceiver_learned": 55_951_080,
    "imagenet:perceiver_conv": 42_341_754,
    "imagenet:large_fourier": 213_082_618,
    "imagenet:large_conv": 212_375_930,
    "imagenet:pretrain_fourier": 234_444_643,
    "imagenet:pretrain_conv": 233_737_955,
    "imagenet:repeated": 44_912_254,
    "imagenet:mini_fourier": 369_813,
    "imagenet:mini_learned": 478_410,
    "imagenet:mini_conv": 391_836,
    "imagenet:mini_perceiver_fourier": 269_845,
    "imagenet:mini_perceiver_learned": 378_442,
    "imagenet:mini_perceiver_conv": 291_868,
    "imagenet:mini_repeated": 331_040,
    "imagenet:mini_pretrain": 369_168,
    "imagenet:mini_finetune": 369_168,
    "imagenet:mini_scratch": 369_168,
    "imagenet:tiny": 7_266,
    "kinetics:published": 19_857_447,
    "kinetics:latents_784": 19_857_063,
    "kinetics:latents_392": 19_656_359,
    "kinetics:latents_196": 19_556_007,
    "kinetics:mini_32": 600_568,
    "kinetics:mini_16": 598_520,
    "kinetics:mini_8": 597_496,
    "kinetics:mini_2": 596_728,
    "kinetics:tiny": 21_042,
    "mlm:bytes": 201_108_230,
    "mlm:bytes_plus_plus": 425_607_430,
    "mlm:sentencepiece": 223_155_456,
    "mlm:bytes_128": 430_132_230,
    "mlm:bytes_512": 105_849_862,
    "mlm:bert_base": 110_649_344,
    "mlm:bert_bytes": 20_361_990,
    "mlm:mini": 1_451_328,
    "mlm:mini_bytes": 506_374,
    "mlm:mini_16": 1_785_808,
    "mlm:mini_64": 1_269_840,
    "mlm:tiny": 9_406,
    "modelnet40:perceiver": 44_772_202,
    "modelnet40:mini": 94_510,
    "modelnet40:tiny": 8_274,
    "quickstart:full": 348_199,
    "quickstart:mini": 9_111,
    "starcraft:perceiver_io": 4_227_136,
    "starcraft:perceiver_io_64": 4_235_328,
    "starcraft:transformer": 2_901_312,
    "starcraft:mini_perceiver_io": 331_840,
    "starcraft:mini_perceiver_io_64": 333_888,
    "starcraft:mini_transformer": 246_144,
    "starcraft:tiny": 29_368,
}


def variants():
  """NAME:VARIANT of every config; the error of a wrong variant lists them."""
  for name in NAMES:
    get_config = importlib.import_module(f"configs.{name}").get_config
    try:
      get_config("no such variant")
    except ValueError as error:
      listed = str(error).split("one of")[1]
      yield from (
          f"{name}:{variant}" for variant in re.findall(r"'(\w+)'", listed)
      )
  # Each model of mlm has all tasks; this is one for each.
  yield from (v for v in PARAMETERS if re.match("glue:.*_cola|glue:mini", v))


@pytest.mark.parametrize("variant", list(variants()))
def test_it_builds_with_the_parameters_that_are_written_down(variant):
  name, which = variant.split(":")
  config = importlib.import_module(f"configs.{name}").get_config(which)
  built = build(config)
  assert built.network.parameters() == PARAMETERS[variant]
  assert config.best.split("/")[0] in built.task.evals


@pytest.mark.parametrize(
    "variant",
    (
        "audioset:tiny",
        "audioset:tiny_mel",
        "flow:conv",
        "flow:tiny",
        "imagenet:conv",
        "imagenet:learned",
        "kinetics:tiny",
        "mlm:tiny",
        "modelnet40:tiny",
        "starcraft:tiny",
    ),
)
def test_it_computes_in_bfloat16_with_parameters_in_float32(variant):
  name, which = variant.split(":")
  config = importlib.import_module(f"configs.{name}").get_config(which)
  config.compute_dtype = "bfloat16"
  network = build_network(config)
  assert network.parameters() == PARAMETERS[variant]
  dtypes = {x.dtype.name for x in jax.tree.leaves(network.like.params)}
  assert dtypes == {"float32"}
  out = jax.eval_shape(
      lambda model, batch: network.net.apply(
          *model, jax.random.key(0), batch, False
      )[0],
      network.like,
      network.batch_like(2),
  )
  assert "bfloat16" in {x.dtype.name for x in jax.tree.leaves(out)}


def test_a_model_that_cannot_be_trained_yet_is_named(monkeypatch):
  monkeypatch.delattr("experiments.audioset.task")
  config = importlib.import_module("configs.audioset").get_config("tiny")
  assert build_network(config).parameters()
  with pytest.raises(UserError, match="audioset.py has a model and no train"):
    build(config)


def test_configs_name_a_change_that_is_not_there():
  config = importlib.import_module("configs.quickstart").get_config().lock()
  with pytest.raises(KeyError):
    config.update_from_flattened_dict({"model.encoder.num_latent": 3})
