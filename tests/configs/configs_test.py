"""Every config and every variant builds, at full size, without data."""

import functools
import importlib

import jax
from ml_collections import ConfigDict
import pytest

from configs import base
from configs import glue
from configs import mlm
from experiments.engine.build import build
from experiments.engine.build import build_network
from experiments.engine.build import Built
from experiments.engine.errors import UserError
from tests.conftest import ROOT

FOLDER = ROOT / "configs"
MODULES = {
    path.stem: importlib.import_module(f"configs.{path.stem}")
    for path in sorted(FOLDER.glob("*.py"))
}
CONFIGS = {
    name: module
    for name, module in MODULES.items()
    if hasattr(module, "VARIANTS")
}
# What is known of some; a config need not be here.
PARAMETERS = {
    "audioset:raw": 24_922_462,
    "audioset:mel": 86_568_413,
    "audioset:perceiver_raw": 20_971_870,
    "audioset:perceiver_mel": 20_971_997,
    "audioset:raw_audio": 24_351_582,
    "audioset:mel_audio": 85_404_921,
    "audioset:video": 24_922_232,
    "audioset:repeated_raw": 109_048_771,
    "audioset:repeated_raw_audio": 107_444_393,
    "audioset:repeated_video": 109_048_541,
    "audioset:repeated_mel": 109_048_898,
    "audioset:repeated_mel_audio": 106_722_271,
    "audioset:repeated_mel_tuned": 109_048_898,
    "audioset:mini_raw": 622_425,
    "audioset:mini_mel": 622_465,
    "audioset:mini_audio": 584_121,
    "audioset:mini_mel_audio": 560_721,
    "audioset:mini_video": 622_371,
    "audioset:mini_perceiver_raw": 522_457,
    "audioset:mini_perceiver_mel": 522_497,
    "audioset:tiny": 355_600,
    "audioset:tiny_mel": 355_727,
    "autoregression:copy": 89_764_102,
    "autoregression:imagenet64": 770_097_414,
    "autoregression:tiny": 12_586,
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
    "imagenet:first_learned": 49_495_784,
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
    "kinetics:mini_32": 604_152,
    "kinetics:mini_16": 602_104,
    "kinetics:mini_8": 601_080,
    "kinetics:mini_2": 600_312,
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


def variants() -> list[str]:
  """NAME:VARIANT of every config; of GLUE's those that differ in kind."""
  names = {name: list(module.VARIANTS) for name, module in CONFIGS.items()}
  names["glue"] = [
      *glue.TASKS,
      *glue.MULTITASK,
      *(f"{model}_cola" for model in mlm.VARIANTS),
  ]
  return [f"{name}:{variant}" for name in names for variant in names[name]]


def config_of(variant: str) -> ConfigDict:
  name, which = variant.split(":")
  return CONFIGS[name].get_config(which)


@functools.cache
def built(variant: str) -> Built:
  return build(config_of(variant))


@pytest.mark.parametrize("variant", variants())
def test_every_variant_builds(variant):
  assert built(variant).network.parameters()
  measured = config_of(variant).best.split("/")[0]  # "": no best is kept.
  assert measured in ("", *built(variant).task.evals)


@pytest.mark.parametrize("variant", PARAMETERS)
def test_models_have_the_parameters_that_are_written_down(variant):
  assert built(variant).network.parameters() == PARAMETERS[variant]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_default_is_the_variant_that_is_named_so(name):
  module = CONFIGS[name]
  assert module.get_config() == module.get_config(module.DEFAULT)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_variant_is_answered_with_the_right_ones(name):
  with pytest.raises(ValueError) as error:
    CONFIGS[name].get_config("no such variant")
  assert ", ".join(CONFIGS[name].VARIANTS) in str(error.value)


def test_a_misspelled_variant_is_answered_with_what_was_meant():
  with pytest.raises(ValueError, match=r"\(did you mean 'mini_sst2'\?\)"):
    config_of("glue:mini_ssst2")


def small(**variants) -> ConfigDict:
  """The config of the last of some variants."""
  root = lambda: ConfigDict({"seed": 0, "model": {"heads": 1, "layers": 2}})
  return base.variant_of(variants, list(variants)[-1], root)


def test_a_variant_has_the_changes_of_its_bases():
  one = (None, {"seed": 1, "model.heads": 3})
  two = ("one", {"seed": 2})
  config = small(one=one, two=two)
  assert config.to_dict() == {"seed": 2, "model": {"heads": 3, "layers": 2}}


def test_a_mapping_replaces_a_section():
  one = (None, {"model": {"width": 4}, "model.width": 5})
  assert small(one=one).to_dict() == {"seed": 0, "model": {"width": 5}}


@pytest.mark.parametrize("key", ["sede", "model.width", "modle.heads"])
def test_a_change_of_what_is_not_there_is_refused(key):
  with pytest.raises(KeyError, match=key.split(".")[0]):
    small(one=(None, {key: 1}))


def test_who_changes_a_config_changes_no_other():
  config_of("flow:mini").init.grids.frames.num_bands = 1
  assert config_of("flow:mini").init.grids.frames.num_bands == 16


@pytest.mark.parametrize(
    "variant",
    (
        "audioset:tiny",
        "audioset:tiny_mel",
        "autoregression:tiny",
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
  config = config_of(variant)
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
  config = config_of("audioset:tiny")
  assert build_network(config).parameters()
  with pytest.raises(
      UserError, match="audioset.py defines a model but no train"
  ):
    build(config)


def test_configs_name_a_change_that_is_not_there():
  config = config_of("quickstart:full").lock()
  with pytest.raises(KeyError):
    config.update_from_flattened_dict({"model.encoder.num_latent": 3})
