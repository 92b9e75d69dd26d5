"""Classification of images as in the papers.

Perceiver IO, Tables 7 and 8; Perceiver, Tables 2, 5, 6 and 7.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import base

INPUTS = {
    "fourier": {"name": "pixels", "num_bands": 64},
    "learned": {"name": "learned_positions", "channels": 256},
    "conv": {"name": "conv", "channels": 64, "num_bands": 64},
}
# Those that train in minutes on CIFAR-10, small ones of Table 7 and of the
# original Perceiver; the last three for half of its classes.
MINI = (
    *(f"mini_{name}" for name in INPUTS),
    *(f"mini_perceiver_{name}" for name in INPUTS),
    "mini_repeated",
    "mini_pretrain",
    "mini_finetune",
    "mini_scratch",
)
VARIANTS = (
    *INPUTS,  # Perceiver IO, config A; the published models
    *(f"perceiver_{name}" for name in INPUTS),  # average and project
    "large_fourier",  # Perceiver IO, config B, fine-tuned
    "large_conv",
    "pretrain_fourier",  # config B, from several labels an image
    "pretrain_conv",
    "repeated",  # the original Perceiver: 8 reads of the pixels
    *MINI,
    "tiny",
)
TRAIN_IMAGES = 1_281_167


def get_config(variant: str = "fourier") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  kind, _, name = variant.removeprefix("mini_").rpartition("_")
  config = base.get_config()
  config.task = "imagenet"
  config.image_size = (224, 224)  # pixels
  config.num_classes = 1000
  config.model = ConfigDict(
      {
          "input": INPUTS.get(name, INPUTS["fourier"]),
          "encoder": {"num_latents": 512, "latent_channels": 1024},
          "processor": {
              "layers_per_block": 6,
              "num_blocks": 8,
              "share_blocks": True,
              "num_heads": 8,
          },
          "reads": {"num_reads": 1},
          "output": {
              "name": "class_query",
              "query_channels": 1024,
              # The published models differ in it.
              "decoder": {"use_query_residual": name != "learned"},
          },
      }
  )
  config.permuted = False  # Elements in an order that is no image's.
  # A folder of pictures or a data set of TFDS, experiments/data/images/sets.py.
  config.train = ConfigDict({"name": "imagenet2012", "split": "train"})
  config.sets = ConfigDict(
      {
          "test": {"name": "imagenet2012", "split": "validation"},
          "training_set": {"name": "imagenet2012", "split": "train[:50000]"},
          "v2": {"name": "imagenet_v2", "split": "test"},
          "real": {
              "name": "imagenet2012_real",
              "split": "validation",
              "max_labels": 32,
          },
      }
  )
  config.evals = ("test",)  # Of these.
  config.classes = ()  # These alone, from 0 in this order; none: all.
  config.max_labels = placeholder(int)  # Of an image; None: it has one.
  config.augmentation = ConfigDict({"num_layers": 4, "magnitude": 5})
  # Of pairs; {}: there are none.
  config.mix = ConfigDict({"alpha": 0.2, "mixup": True, "cutmix": True})
  config.label_smoothing = 0.1
  config.best = "test/top1"
  config.batch_size = 1024
  config.eval_batch_size = 256
  config.train_examples = 110 * TRAIN_IMAGES
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.1})
  config.schedule = ConfigDict({"name": "flat_then_cosine", "peak": 2e-3})
  if kind == "perceiver" or variant.endswith("repeated"):
    config.model.output = {"name": "average_and_project"}
  if kind in ("large", "pretrain"):
    large(config, name)
  if kind == "pretrain":
    pretrain(config)
  if variant.endswith("repeated"):
    config.model.reads = {
        "num_reads": 8,
        "interleave": True,
        "share_reads": True,
    }
    config.train_examples = 120 * TRAIN_IMAGES
    config.schedule = {
        "name": "step_decay",
        "peak": 4e-3,
        "boundaries": (84 / 120, 102 / 120, 114 / 120),
        "factor": 0.1,
    }
  if variant in MINI:
    mini(config, variant)
  if variant == "tiny":
    tiny(config)
  return config


def large(config: ConfigDict, name: str) -> None:
  """Config B, and how what was pretrained is fine-tuned."""
  config.model.processor = {
      "layers_per_block": 16,
      "num_heads": 8,
      "widening_factor": 4,
  }
  if name == "fourier":
    config.model.input.channels = 256
  config.start.fresh = "^logits/"  # Of other classes.
  config.train_examples = 131_000 * 1024
  config.schedule.flat = 70 / 131
  if name == "conv":
    config.schedule.peak = 2e-4


def pretrain(config: ConfigDict) -> None:
  """ImageNet-21k stands in for JFT-300M, which is not public."""
  config.train = {"name": "imagenet21k", "split": "train[10000:]"}
  config.sets = {"test": {"name": "imagenet21k", "split": "train[:10000]"}}
  config.num_classes = 21_841
  config.max_labels = 8
  config.start.fresh = ""
  config.augmentation.num_layers = 0  # Crops and flips only.
  config.mix = {}
  config.batch_size = 8192
  config.train_examples = 14 * 300_000_000
  config.schedule = {"name": "warmup_cosine", "peak": 3e-4, "warmup": 0}


def mini(config: ConfigDict, variant: str) -> None:
  """A small model of CIFAR-10's small images."""
  config.image_size = (32, 32)
  config.num_classes = 10
  if "num_bands" in config.model.input:
    config.model.input.num_bands = 16
  if config.model.input.name == "conv":
    config.model.input.channels = 32
  if config.model.input.name == "learned_positions":
    config.model.input.channels = 64
  config.model.encoder = {"num_latents": 64, "latent_channels": 128}
  config.model.processor = {
      "layers_per_block": 2,
      "num_blocks": 4,
      "share_blocks": True,
      "num_heads": 4,
  }
  if config.model.output.name == "class_query":
    config.model.output.query_channels = 128
  config.train = {"name": "cifar10", "split": "train"}
  config.sets = {
      "test": {"name": "cifar10", "split": "test[:2000]"},
      "training_set": {"name": "cifar10", "split": "train[:10000]"},
  }
  config.augmentation.num_layers = 0
  config.mix = {}
  config.batch_size = 64
  config.train_examples = 64 * 300  # Three minutes of two cores.
  config.optimizer = {"name": "adamw", "weight_decay": 0.05}
  config.schedule = {"name": "warmup_cosine", "peak": 1e-3, "warmup": 100}
  config.max_grad_norm = 1.0
  if variant == "mini_repeated":
    config.model.reads.num_reads = 4
  if variant == "mini_pretrain":
    config.classes = (0, 1, 2, 3, 4)
  if variant in ("mini_finetune", "mini_scratch"):
    config.classes = (5, 6, 7, 8, 9)
  if config.classes:
    config.num_classes = 5
  if variant == "mini_finetune":
    config.start.weights = "runs/imagenet/mini_pretrain"
    config.start.fresh = "^logits/"


def tiny(config: ConfigDict) -> None:
  """For tests."""
  config.image_size = (14, 14)
  config.num_classes = 11
  config.model.input.num_bands = 3
  config.model.encoder = {"num_latents": 7, "latent_channels": 16}
  config.model.processor = {
      "layers_per_block": 2,
      "num_blocks": 3,
      "num_heads": 4,
  }
  config.model.output.query_channels = 16
  config.batch_size, config.eval_batch_size = 4, 3
  config.train_examples = 4 * 5
