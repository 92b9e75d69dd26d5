"""Classification of images as in the papers.

Perceiver IO, Tables 7 and 8; Perceiver, Tables 2, 5, 6 and 7. Data sets of TFDS
and folders of images are read as they are; where one is missing, the error
says how to come by it.

    python -m experiments.train --config=configs/imagenet.py:fourier
        --workdir=DIR
    python -m experiments.train --config=configs/imagenet.py:pretrain_conv
        --workdir=PRETRAINED
    python -m experiments.train --config=configs/imagenet.py:large_conv
        --workdir=DIR --config.init.pretrained=PRETRAINED

The full-size models were not trained here. The `mini_*` learn from CIFAR-10
(`python -m scripts.prepare_data cifar10`), in 300 steps of 64:

    python -m experiments.train --config=configs/imagenet.py:mini_conv
        --workdir=DIR --config.data_dir=FOLDER_OF_CIFAR10

`mini` is `mini_conv` for a folder of pictures, with a folder of images for each
class. Classes are counted and named; its validation or test set, or else a
tenth of its images, is evaluated. `finetune` does so with a trained model,
whatever variant that is of; docs/finetuning.md has an example:

    python -m experiments.train --config=configs/imagenet.py:mini
        --workdir=DIR --config.folder=PICTURES
    python -m experiments.train --config=configs/imagenet.py:finetune
        --workdir=DIR --config.folder=PICTURES --config.init.pretrained=FILE

Top-1 of 2,000 test images, in percent:

                  Perceiver IO, mini_*  Perceiver, mini_perceiver_*
    fourier               33.2                     34.0
    learned               28.0                     27.6
    conv                  39.4                     40.0

`mini_repeated` has 34.4. On five of the classes `mini_pretrain` has 55.0; on
the other five `mini_finetune` has 62.5 and `mini_scratch` 56.9.
"""

from ml_collections import ConfigDict

from configs import base

TRAIN_IMAGES = 1_281_167
# Of the output layer, which starts anew for other classes.
OUTPUT = "(^|/)logits/"
LEARNED = {
    "model.input": {"name": "learned_positions", "channels": 256},
    # The published models differ in it.
    "model.output.decoder.use_query_residual": False,
}
CONV = {"model.input": {"name": "conv", "channels": 64, "num_bands": 64}}
# The original Perceiver.
PERCEIVER = {"model.output": {"name": "average_and_project"}}
# Config B, and how what was pretrained is fine-tuned.
LARGE = {
    "model.processor": {
        "layers_per_block": 16,
        "num_heads": 8,
        "widening_factor": 4,
    },
    "init.reinitialize": OUTPUT,
    "train_examples": 131_000 * 1024,
    "schedule": {"name": "flat_then_cosine", "peak": 2e-3, "flat": 70 / 131},
}
# ImageNet-21k stands in for JFT-300M, which is not public.
PRETRAIN = {
    "train": {"name": "imagenet21k", "split": "train[10000:]"},
    "sets": {"test": {"name": "imagenet21k", "split": "train[:10000]"}},
    "num_classes": 21_841,
    "max_labels": 8,
    "init.reinitialize": "",
    "augmentation.num_layers": 0,  # Crops and flips only.
    "mix": {},
    "batch_size": 8192,
    "train_examples": 14 * 300_000_000,
    "schedule": {"name": "warmup_cosine", "peak": 3e-4, "warmup": 0},
}
# The first paper's recipe, which has RandAugment alone.
FIRST = {
    "mix": {},
    "train_examples": 120 * TRAIN_IMAGES,
    "schedule": {
        "name": "step_decay",
        "peak": 4e-3,
        "boundaries": (84 / 120, 102 / 120, 114 / 120),
        "factor": 0.1,
    },
}
REPEATED = FIRST | {
    "model.reads": {"num_reads": 8, "interleave": True, "share_reads": True},
}
# A small model of CIFAR-10's small images.
MINI = {
    "image_size": (32, 32),
    "num_classes": 10,
    "model.encoder": {"num_latents": 64, "latent_channels": 128},
    "model.processor": {
        "layers_per_block": 2,
        "num_blocks": 4,
        "share_blocks": True,
        "num_heads": 4,
    },
    "model.output.query_channels": 128,
    "train": {"name": "cifar10", "split": "train"},
    "sets": {
        "test": {"name": "cifar10", "split": "test[:2000]"},
        "training_set": {"name": "cifar10", "split": "train[:10000]"},
    },
    "augmentation.num_layers": 0,
    "mix": {},
    "batch_size": 64,
    "train_examples": 64 * 300,  # Three minutes of two cores.
    "optimizer": {"name": "adamw", "weight_decay": 0.05},
    "schedule": {"name": "warmup_cosine", "peak": 1e-3, "warmup": 100},
    "max_grad_norm": 1.0,
}
FINETUNE = {
    "model_of_weights": True,
    "init.reinitialize": OUTPUT,
    "count_classes": True,
    "train": {"name": "", "split": "train"},
    "sets": {"test": {"name": "", "split": ""}},
    "upright": True,
    "augmentation.num_layers": 0,  # Crops and flips only.
    "mix": {},
    "batch_size": 64,
    "eval_batch_size": 64,
    "train_examples": 64 * 500,
    "optimizer": {"name": "adamw", "weight_decay": 0.05},
    "schedule": {"name": "warmup_cosine", "peak": 3e-4, "warmup": 50},
    "max_grad_norm": 1.0,
    "run.eval_every": 100,
    "run.checkpoint_every": 100,
}
TINY = {
    "image_size": (14, 14),
    "num_classes": 11,
    "model.input.num_bands": 3,
    "model.encoder": {"num_latents": 7, "latent_channels": 16},
    "model.processor": {
        "layers_per_block": 2,
        "num_blocks": 3,
        "num_heads": 4,
    },
    "model.output.query_channels": 16,
    "batch_size": 4,
    "eval_batch_size": 3,
    "train_examples": 4 * 5,
}
VARIANTS = {
    # Perceiver IO, config A; the published models.
    "fourier": (None, {}),
    "learned": ("fourier", LEARNED),
    "conv": ("fourier", CONV),
    # The original Perceiver: average and project.
    "perceiver_fourier": ("fourier", PERCEIVER),
    "perceiver_learned": ("learned", PERCEIVER),
    "perceiver_conv": ("conv", PERCEIVER),
    # Perceiver IO, config B, fine-tuned.
    "large_fourier": (
        "fourier",
        LARGE
        | {"model.input": {"name": "pixels", "num_bands": 64, "channels": 256}},
    ),
    "large_conv": ("conv", LARGE | {"schedule.peak": 2e-4}),
    # A trained model of any variant, on a folder of one's own classes.
    "finetune": ("fourier", FINETUNE),
    # Config B, from several labels an image.
    "pretrain_fourier": ("large_fourier", PRETRAIN),
    "pretrain_conv": ("large_conv", PRETRAIN),
    # The original Perceiver with 8 reads of the pixels.
    "repeated": ("perceiver_fourier", REPEATED),
    # With learned positions, of which it has 128 channels, it reads once.
    "first_learned": (
        "perceiver_learned",
        FIRST
        | {"model.input": LEARNED["model.input"] | {"position_channels": 128}},
    ),
    # Those of CIFAR-10: Table 7 in small.
    "mini_fourier": (
        "fourier",
        MINI
        | {
            "model.input": {
                "name": "pixels",
                "num_bands": 16,
                # Of 32, these bands would be whole numbers of waves, the same
                # at both ends of a row.
                "max_resolution": (31, 31),
            }
        },
    ),
    "mini_learned": ("learned", MINI | {"model.input.channels": 64}),
    "mini_conv": (
        "conv",
        MINI | {"model.input.num_bands": 16, "model.input.channels": 32},
    ),
    # The same of any folder of classes: `--config.train.name=FOLDER`.
    "mini": (
        "mini_conv",
        {
            "sets": {"test": {"name": "", "split": ""}},
            "count_classes": True,
            "upright": True,
        },
    ),
    "mini_perceiver_fourier": ("mini_fourier", PERCEIVER),
    "mini_perceiver_learned": ("mini_learned", PERCEIVER),
    "mini_perceiver_conv": ("mini_conv", PERCEIVER),
    # 4 reads of the pixels, one before each block.
    "mini_repeated": (
        "mini_perceiver_fourier",
        {
            "model.reads": {
                "num_reads": 4,
                "interleave": True,
                "share_reads": True,
            }
        },
    ),
    # One half of the classes; the other half from that, and from scratch.
    "mini_pretrain": (
        "mini_fourier",
        {"classes": (0, 1, 2, 3, 4), "num_classes": 5},
    ),
    "mini_finetune": (
        "mini_scratch",
        {
            "init.pretrained": "runs/imagenet/mini_pretrain",
            "init.reinitialize": OUTPUT,
        },
    ),
    "mini_scratch": (
        "mini_fourier",
        {"classes": (5, 6, 7, 8, 9), "num_classes": 5},
    ),
    "tiny": ("fourier", TINY),  # For tests.
}
DEFAULT = "fourier"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "fourier"."""
  config = base.get_config()
  config.task = "imagenet"
  config.image_size = (224, 224)  # pixels
  config.num_classes = 1000
  config.model = ConfigDict(
      {
          "input": {"name": "pixels", "num_bands": 64},
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
              "decoder": {"use_query_residual": True},
          },
      }
  )
  config.permuted = False  # apply a fixed random permutation to the elements
  # Use the model, `image_size` and `permuted` of `init.pretrained`.
  config.model_of_weights = False
  # A folder or zip file of images in class folders, optionally in train and
  # validation, instead of `train.name`.
  config.folder = ""
  # A folder of images or a data set of TFDS.
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
  config.evals = ("test",)  # names of `sets`
  config.classes = ()  # only these, renumbered from 0 in this order; (): all
  # Take num_classes, class_names and missing entries of `sets` from the data.
  config.count_classes = False
  config.class_names = ()  # by label; (): shown as numbers
  config.max_labels = None  # maximum labels of an image; None: one label
  # Apply the EXIF rotation of images, unlike the release.
  config.upright = False
  config.augmentation = ConfigDict({"num_layers": 4, "magnitude": 5})
  # MixUp and CutMix; {}: neither.
  config.mix = ConfigDict({"alpha": 0.2, "mixup": True, "cutmix": True})
  config.label_smoothing = 0.1
  config.best = "test/top1"
  config.batch_size = 1024
  config.eval_batch_size = 256
  config.train_examples = 110 * TRAIN_IMAGES
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.1})
  config.schedule = ConfigDict({"name": "flat_then_cosine", "peak": 2e-3})
  return config
