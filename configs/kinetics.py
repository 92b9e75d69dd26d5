"""Multimodal autoencoding of Kinetics as in Perceiver IO, Tables 4 and 17.

    python -m scripts.prepare_data kinetics --csv train.csv validate.csv
        --videos=DIR
    python -m experiments.train --config=configs/kinetics.py:latents_784
        --workdir=DIR

The full-size models were not trained here. The `mini_*` learn from clips of any
film:

    python -m scripts.prepare_data film --video=FILE --output=clips
    python -m scripts.prepare_data kinetics --as_name=film
        --csv clips/train.csv clips/validate.csv --videos=clips
    python -m experiments.train --config=configs/kinetics.py:mini_32
        --workdir=DIR

Each takes some 12 minutes of one busy core. PSNRs of held-out clips of Big Buck
Bunny, in dB, and top-1 of ten classes:

               video  sound  class
    mini_32    19.43  28.22  13.0 %
    mini_16    18.38  19.83  26.1 %
    mini_8     17.70  18.71  26.1 %
"""

from ml_collections import ConfigDict

from configs import base

TRAIN_CLIPS = 536_489  # of Kinetics-700-2020
# A small model of a third of a second, which has 25,216 numbers.
MINI = {
    "video": (8, 32, 32),
    "samples_per_frame": 80,  # 2 kHz
    "num_classes": 10,
    "num_points": 256,
    "num_chunks": 8,
    "model.video.num_bands": 8,
    # A latent reads one average: of sound it keeps what one patch is. The eight
    # patches lie from -1 to 1, both included: of resolution 8, whose bands are
    # whole numbers of waves, the first and the last would be the same.
    "model.audio": {"patch": 80, "num_bands": 4, "max_resolution": (7,)},
    "model.encoder": {"num_latents": 2 * 3 * 4 + 8, "latent_channels": 128},
    # Latents start on a grid of video, frames × rows × columns, and along the
    # sound.
    "init.locality_bias": 3.0,
    # Clips are decoded as silence and black at first. Sound that starts louder
    # than what is to be decoded soon becomes the average of all its latents,
    # and its outputs no longer find the latent of their patch.
    "init.zeros": "^(audio|video)/w$",
    "init.grids": {
        "video": {
            "dims": (8, 8, 8),  # Patches.
            "output_dims": (8, 32, 32),  # Pixels.
            "latent_dims": (2, 3, 4),
            "num_bands": 8,
            "of_inputs": 48,  # After the numbers of a patch.
            "of_queries": 0,
        },
        "audio": {
            "dims": (8,),
            "max_resolution": (7,),
            "output_dims": (8,),
            "latent_dims": (8,),
            "num_bands": 4,
            "of_inputs": 80,
            "of_queries": 0,
        },
    },
    "model.processor": {"layers_per_block": 4, "num_heads": 4},
    "model.label_channels": 128,
    "model.query_channels": 130,
    "model.output_channels": 80,  # As many as a patch of sound has samples.
    "train.name": "film",
    # That of training, whichever it is.
    "sets.test.name": "",
    "sets.training_set.name": "",
    "count_classes": True,
    "batch_size": 16,
    "eval_batch_size": 16,
    "train_examples": 16 * 2000,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "max_grad_norm": 1.0,
    "schedule.warmup": 100,
}
TINY = {
    "video": (2, 12, 12),
    "samples_per_frame": 24,
    "num_classes": 7,
    "num_points": 5,
    "num_chunks": 3,
    "model.video.num_bands": 3,
    "model.audio": {"patch": 4, "num_bands": 5, "max_resolution": None},
    "model.encoder": {"num_latents": 7, "latent_channels": 16},
    "model.processor": {"layers_per_block": 2, "num_heads": 4},
    "model.label_channels": 23,
    "model.query_channels": 25,
    "model.output_channels": 12,
    "batch_size": 4,
    "eval_batch_size": 3,
    "train_examples": 4 * 4,
    "schedule.warmup": 1,
}
VARIANTS = {
    # The published model has 32 bands for video where the paper says 64.
    "published": (None, {}),
    # Table 4: the fewer latents, the more a clip is compressed.
    "latents_784": ("published", {"model.video.num_bands": 64}),  # 88 times
    "latents_392": ("latents_784", {"model.encoder.num_latents": 392}),  # 176
    "latents_196": ("latents_784", {"model.encoder.num_latents": 196}),  # 352
    # The same in small, for clips of a film.
    "mini_32": ("published", MINI),  # 6 times
    # 12 times
    "mini_16": (
        "mini_32",
        {
            "model.encoder.num_latents": 2 * 2 * 3 + 4,
            "init.grids.video.latent_dims": (2, 2, 3),
            "init.grids.audio.latent_dims": (4,),
        },
    ),
    # 25 times
    "mini_8": (
        "mini_32",
        {
            "model.encoder.num_latents": 1 * 2 * 3 + 2,
            "init.grids.video.latent_dims": (1, 2, 3),
            "init.grids.audio.latent_dims": (2,),
        },
    ),
    # 98 times
    "mini_2": (
        "mini_32",
        {
            "model.encoder.num_latents": 1 * 1 * 1 + 1,
            "init.grids.video.latent_dims": (1, 1, 1),
            "init.grids.audio.latent_dims": (1,),
        },
    ),
    "tiny": ("published", TINY),  # For tests.
}
DEFAULT = "published"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "published"."""
  config = base.get_config()
  config.task = "kinetics"
  config.video = (16, 224, 224)  # frames, pixels, pixels
  config.samples_per_frame = 1920  # 48 kHz at 25 frames a second
  config.num_classes = 700
  config.count_classes = False  # True: num_classes is that of the data.
  config.class_names = ()  # Of the data, by label; they are found there.
  config.label_mask_rate = 0.5  # of the examples, in training; else always
  config.num_points = 512  # voxels and audio patches decoded; 0: all
  config.num_chunks = 128  # in which all are decoded
  config.modalities = ("audio", "video", "label")  # any but the label alone
  # The paper's other weights have label 1: better classes and worse images.
  config.loss_weights = ConfigDict({"video": 0.03, "audio": 1.0, "label": 1e-4})
  # Lists that scripts/prepare_data.py has indexed.
  config.train = ConfigDict({"name": "kinetics", "split": "train"})
  config.sets = ConfigDict(
      {
          "test": {"name": "kinetics", "split": "validate"},
          "training_set": {"name": "kinetics", "split": "train"},
      }
  )
  config.evals = ("test",)  # names of `sets`
  config.skip_missing = False  # evaluate although clips are missing
  config.eval_batch_size = 64
  config.best = "test/video_psnr"
  config.batch_size = 1024
  # The papers give neither the length of training nor the optimizer; these are
  # those of ImageNet.
  config.train_examples = 110 * TRAIN_CLIPS
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.1})
  config.schedule = ConfigDict(
      {"name": "warmup_cosine", "peak": 1e-3, "warmup": 0}  # steps
  )
  config.model = ConfigDict(
      {
          "video": {
              "patch": (1, 4, 4),
              "num_bands": 32,
              "max_resolution": None,  # None: that of the patches
          },
          # None: that of samples, of which a patch has 16.
          "audio": {"patch": 16, "num_bands": 192, "max_resolution": None},
          "min_padding": 4,
          "encoder": {"num_latents": 784, "latent_channels": 512},
          "processor": {"layers_per_block": 8, "num_heads": 8},
          "label_channels": 1024,
          # The release's label query and a padding of 2. Without the label the
          # others need no more than 389, but what is decoded is as wide.
          "query_channels": 1026,
          "decoder": {"use_query_residual": False},
          "output_channels": 512,
      }
  )
  return config
