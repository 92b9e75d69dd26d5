"""AudioSet classification as in Perceiver IO, Table 10.

    python -m scripts.prepare_data audioset --csv unbalanced_train_segments.csv
        eval_segments.csv --classes=class_labels_indices.csv --videos=DIR
    python -m experiments.train --config=configs/audioset.py --workdir=DIR

The `mini` ones learn from spoken digits over pictures of CIFAR-10:

    python -m scripts.prepare_data spoken_pictures --recordings=ZIP
        --pictures=ZIP --output=DIR
    python -m scripts.prepare_data audioset --csv DIR/train.csv DIR/test.csv
        --classes=DIR/class_labels_indices.csv --videos=DIR/clips
        --as_name=spoken_pictures
"""

from ml_collections import ConfigDict

from configs import base

# What each hears, and whether it sees.
INPUTS = {
    "raw": ("raw", True),  # samples
    "mel": ("mel", True),  # a mel-spectrogram
    "raw_audio": ("raw", False),
    "mel_audio": ("mel", False),
    "video": ("", True),
    "perceiver_raw": ("raw", True),  # the original Perceiver
    "perceiver_mel": ("mel", True),
}
# The same in small, for ten classes.
MINI = {
    "mini_raw": "raw",
    "mini_mel": "mel",
    "mini_audio": "raw_audio",
    "mini_mel_audio": "mel_audio",
    "mini_video": "video",
    "mini_perceiver_raw": "perceiver_raw",
    "mini_perceiver_mel": "perceiver_mel",
}
TINY = {"tiny": "raw", "tiny_mel": "mel"}
VARIANTS = (*INPUTS, *MINI, *TINY)
TRAIN_CLIPS = 1_700_000  # Those that the papers had; Perceiver, §4.2.


def get_config(variant: str = "raw") -> ConfigDict:
  """The numbers of a variant."""
  if variant not in VARIANTS:
    raise ValueError(f"variant {variant!r} is not one of {list(VARIANTS)}")
  full = {**MINI, **TINY}.get(variant, variant)
  sound, sees = INPUTS[full]
  config = base.get_config()
  config.task = "audioset"
  config.modalities = ("audio",) * bool(sound) + ("video",) * sees
  config.video = (32, 224, 224)  # frames, pixels, pixels
  config.fps = 25.0  # frames a second
  config.samples_per_frame = 1920  # 48 kHz
  config.num_audio = 4800 if sound == "mel" else 61_440  # numbers that are read
  config.num_classes = 527
  # {}: the samples themselves are read. The paper has no settings: see
  # experiments/data/clips/sound.py.
  config.spectrogram = ConfigDict({})
  config.model = ConfigDict(
      {
          "video": {"patch": (2, 8, 8), "num_bands": 16},
          # The papers do not say how many bands sound has; its elements are
          # widened to those of the video in any case.
          "audio": {"patch": 1 if sound == "mel" else 128, "num_bands": 64},
          "min_padding": 4,
          "encoder": {
              "num_latents": 512,
              # The one row of the table with wider latents is Perceiver IO on
              # spectrograms.
              "latent_channels": 1024 if full in ("mel", "mel_audio") else 512,
              "qk_channels": None,  # as many as the input array has
          },
          "processor": {"layers_per_block": 12, "num_heads": 8},
          "output": {
              "name": "class_query",
              "query_channels": 1024,
              "decoder": {"num_heads": 1},
          },
      }
  )
  if full.startswith("perceiver"):
    config.model.output = {"name": "average_and_project"}
  # Lists that scripts/prepare_data.py has indexed.
  config.train = ConfigDict(
      {"name": "audioset", "split": "unbalanced_train_segments"}
  )
  config.sets = ConfigDict(
      {
          "test": {"name": "audioset", "split": "eval_segments"},
          "training_set": {
              "name": "audioset",
              "split": "balanced_train_segments",
          },
      }
  )
  config.evals = ("test",)  # of these
  config.skip_missing = False  # True: evaluate on the clips that there are
  config.windows = 16  # of each clip, whose scores are averaged
  config.eval_batch_size = 64  # windows
  config.color_augmentation = 0.8  # the part of the clips that it changes
  config.video_dropout = 0.3  # the part of the clips that are heard alone
  config.spec_augment = ConfigDict({})  # {}: nothing is hidden
  if sound == "mel":
    mel(config)
  # The papers have 100 epochs, and say of batches and optimizer nothing: they
  # are as for ImageNet.
  config.train_examples = 100 * TRAIN_CLIPS
  config.batch_size = 1024
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.1})
  config.schedule = ConfigDict({"name": "flat_then_cosine", "peak": 2e-3})
  config.best = "test/map"
  if variant in MINI:
    mini(config)
  if variant in TINY:
    tiny(config)
  return config


def mel(config: ConfigDict) -> None:
  """60 frames of 80 bands."""
  config.spectrogram = {
      "hop": 1024,  # samples
      "window": 2048,  # samples
      "num_bands": 80,
      "low": 80.0,  # Hz
      "high": 7600.0,  # Hz
  }
  config.video_dropout = 0.1
  # Of the paper that SpecAugment is from: its "LB" has as many bands of 80, and
  # its masks of time cover a fifth at most.
  config.spec_augment = {"frequency": 27, "time": 12, "masks": 1}


def mini(config: ConfigDict) -> None:
  """A small model of as many seconds."""
  config.train.name = "spoken_pictures"
  config.train.split = "train"
  config.sets = {
      "test": {"name": "spoken_pictures", "split": "test"},
      "training_set": {"name": "spoken_pictures", "split": "train"},
  }
  config.num_classes = 10
  config.video = (8, 32, 32)
  config.fps = 6.25
  config.samples_per_frame = 1280  # 8 kHz
  config.num_audio = 8 * 1280
  config.windows = 4  # of two seconds
  config.eval_batch_size = 60
  config.model.video = {"patch": (2, 4, 4), "num_bands": 8}
  config.model.audio = {"patch": 64, "num_bands": 16}
  if config.spectrogram:
    config.num_audio = 80 * 24
    config.spectrogram = {
        "hop": 128,
        "window": 256,
        "num_bands": 24,
        "low": 100.0,
        "high": 4000.0,
    }
    config.spec_augment = {"frequency": 5, "time": 12, "masks": 1}
    # An input is a frame. If it is one number, as in full models, nothing is
    # learned in so few steps.
    config.model.audio = {"patch": 24, "num_bands": 16}
  config.model.encoder = {"num_latents": 32, "latent_channels": 128}
  config.model.processor = {"layers_per_block": 4, "num_heads": 4}
  if config.model.output.name == "class_query":
    config.model.output.query_channels = 128
  config.batch_size = 32
  config.train_examples = 32 * 600
  config.optimizer = {"name": "adamw", "weight_decay": 0.05}
  config.schedule = {"name": "warmup_cosine", "peak": 1e-3, "warmup": 100}
  config.max_grad_norm = 1.0


def tiny(config: ConfigDict) -> None:
  """For tests."""
  config.video = (4, 24, 24)
  config.fps = 12.5
  config.samples_per_frame = 224  # 2.8 kHz
  config.num_audio = 7 * 128
  config.num_classes = 11
  config.model.video.num_bands = 3
  config.model.audio.num_bands = 5
  if config.spectrogram:
    config.num_audio = 14 * 5
    config.spectrogram = {
        "hop": 64,
        "window": 128,
        "num_bands": 5,
        "low": 100.0,
        "high": 1400.0,
    }
    config.spec_augment = {"frequency": 2, "time": 3, "masks": 1}
  config.model.encoder = {"num_latents": 7, "latent_channels": 16}
  config.model.processor = {"layers_per_block": 2, "num_heads": 4}
  config.model.output.query_channels = 12
  config.windows = 3
  config.batch_size, config.eval_batch_size = 4, 5
  config.train_examples = 4 * 5
