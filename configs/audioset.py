"""AudioSet classification as in Perceiver IO, Table 10; Perceiver, Table 3.

    python -m scripts.prepare_data audioset --csv unbalanced_train_segments.csv
        eval_segments.csv --classes=class_labels_indices.csv --videos=DIR
    python -m experiments.train --config=configs/audioset.py --workdir=DIR

The full-size models were not trained here. The `mini_*` learn from spoken
digits over images of CIFAR-10:

    python -m scripts.prepare_data spoken_images --recordings=ZIP
        --images=ZIP --output=DIR
    python -m scripts.prepare_data audioset --csv DIR/train.csv DIR/test.csv
        --classes=DIR/class_labels_indices.csv --videos=DIR/clips
        --as_name=spoken_images
    python -m experiments.train --config=configs/audioset.py:mini_mel
        --workdir=DIR

Each takes three to six minutes of one core. Mean average precision on held-out
clips, in percent, of which guessing gives about 10:

    mini_raw    29.1    mini_audio      33.3    mini_perceiver_raw    26.5
    mini_mel    44.5    mini_mel_audio  62.4    mini_perceiver_mel    30.8
                        mini_video      35.7
"""

from ml_collections import ConfigDict

from configs import base

TRAIN_CLIPS = 1_700_000  # Those that the papers had; Perceiver, §4.2.
HEARS = {"modalities": ("audio",)}
SEES = {"modalities": ("video",)}
# The original Perceiver.
PERCEIVER = {"model.output": {"name": "average_and_project"}}
# A mel-spectrogram: 60 frames of 80 bands.
MEL = {
    "num_audio": 60 * 80,
    "spectrogram": {
        "hop": 1024,  # samples
        "window": 2048,  # samples
        "num_bands": 80,
        "low": 80.0,  # Hz
        "high": 7600.0,  # Hz
    },
    "model.audio": {"patch": 1, "num_bands": 64},
    # Of the paper that SpecAugment is from: its "LB" has as many bands of 80,
    # and its masks of time cover a fifth at most.
    "spec_augment": {"frequency": 27, "time": 12, "masks": 1},
}
# The first paper's model: two reads of the clip, nothing shared.
REPEATED = PERCEIVER | {
    "model.encoder": {"num_latents": 512, "latent_channels": 1024},
    "model.processor": {
        "layers_per_block": 8,
        "num_blocks": 2,  # one after each read
        "share_blocks": False,
        "num_heads": 8,
    },
    "model.reads": {"num_reads": 2, "interleave": True, "share_reads": False},
}
# A small model of as many seconds, for ten classes.
MINI = {
    "train": {"name": "spoken_images", "split": "train"},
    "sets": {
        # That of training, whichever it is.
        "test": {"name": "", "split": "test"},
        "training_set": {"name": "", "split": "train"},
    },
    "num_classes": 10,
    "count_classes": True,
    "video": (8, 32, 32),
    "fps": 6.25,
    "samples_per_frame": 1280,  # 8 kHz
    "num_audio": 8 * 1280,
    "windows": 4,  # of two seconds
    "eval_batch_size": 60,
    "model.video": {"patch": (2, 4, 4), "num_bands": 8},
    "model.audio": {"patch": 64, "num_bands": 16},
    "model.encoder": {"num_latents": 32, "latent_channels": 128},
    "model.processor": {"layers_per_block": 4, "num_heads": 4},
    "model.output.query_channels": 128,
    "batch_size": 32,
    "train_examples": 32 * 600,
    "optimizer": {"name": "adamw", "weight_decay": 0.05},
    "schedule": {"name": "warmup_cosine", "peak": 1e-3, "warmup": 100},
    "max_grad_norm": 1.0,
}
MINI_MEL = MEL | {
    "num_audio": 80 * 24,
    "spectrogram": {
        "hop": 128,
        "window": 256,
        "num_bands": 24,
        "low": 100.0,
        "high": 4000.0,
    },
    "spec_augment": {"frequency": 5, "time": 12, "masks": 1},
    # An input is a frame. If it is one number, as in full models, nothing is
    # learned in so few steps.
    "model.audio": {"patch": 24, "num_bands": 16},
}
TINY = {
    "video": (4, 24, 24),
    "fps": 12.5,
    "samples_per_frame": 224,  # 2.8 kHz
    "num_audio": 7 * 128,
    "num_classes": 11,
    "model.video.num_bands": 3,
    "model.audio.num_bands": 5,
    "model.encoder": {"num_latents": 7, "latent_channels": 16},
    "model.processor": {"layers_per_block": 2, "num_heads": 4},
    "model.output.query_channels": 12,
    "windows": 3,
    "batch_size": 4,
    "eval_batch_size": 5,
    "train_examples": 4 * 5,
}
TINY_MEL = MEL | {
    "num_audio": 14 * 5,
    "spectrogram": {
        "hop": 64,
        "window": 128,
        "num_bands": 5,
        "low": 100.0,
        "high": 1400.0,
    },
    "spec_augment": {"frequency": 2, "time": 3, "masks": 1},
    "model.audio": {"patch": 1, "num_bands": 5},
}
VARIANTS = {
    # Sound and video; the sound is samples or a mel-spectrogram. The one row of
    # the table with wider latents is Perceiver IO on spectrograms.
    "raw": (None, {}),
    "mel": ("raw", MEL | {"model.encoder.latent_channels": 1024}),
    # One of the two alone.
    "raw_audio": ("raw", HEARS),
    "mel_audio": ("mel", HEARS),
    "video": ("raw", SEES),
    # The original Perceiver.
    "perceiver_raw": ("raw", PERCEIVER),
    "perceiver_mel": ("perceiver_raw", MEL),
    # Perceiver, Table 3.
    "repeated_raw": ("raw", REPEATED),
    "repeated_raw_audio": ("repeated_raw", HEARS),
    "repeated_video": ("repeated_raw", SEES),
    "repeated_mel": ("repeated_raw", MEL),
    "repeated_mel_audio": ("repeated_mel", HEARS),
    "repeated_mel_tuned": (
        "repeated_mel",
        {"spec_augment": {}, "audio_dropout": 0.1},
    ),
    # The same in small.
    "mini_raw": ("raw", MINI),
    "mini_mel": ("mini_raw", MINI_MEL),
    "mini_audio": ("mini_raw", HEARS),
    "mini_mel_audio": ("mini_mel", HEARS),
    "mini_video": ("mini_raw", SEES),
    "mini_perceiver_raw": ("mini_raw", PERCEIVER),
    "mini_perceiver_mel": ("mini_mel", PERCEIVER),
    # For tests.
    "tiny": ("raw", TINY),
    "tiny_mel": ("tiny", TINY_MEL),
}
DEFAULT = "raw"


def get_config(variant: str = DEFAULT) -> ConfigDict:
  """The settings of a variant."""
  return base.variant_of(VARIANTS, variant, numbers)


def numbers() -> ConfigDict:
  """The settings of "raw"."""
  config = base.get_config()
  config.task = "audioset"
  config.modalities = ("audio", "video")
  config.video = (32, 224, 224)  # frames, pixels, pixels
  config.fps = 25.0  # frames per second
  config.samples_per_frame = 1920  # 48 kHz
  config.num_audio = 61_440  # input samples, or numbers of the spectrogram
  config.num_classes = 527
  config.count_classes = False  # True: num_classes is that of the data.
  config.class_names = ()  # Of the data, by label; they are found there.
  # {}: the samples themselves are read. The paper has no settings of
  # spectrograms.
  config.spectrogram = ConfigDict({})
  config.model = ConfigDict(
      {
          "video": {
              "patch": (2, 8, 8),
              "num_bands": 16,
              "max_resolution": None,  # None: that of the patches
          },
          # Elements of sound are padded to the channels of video.
          "audio": {"patch": 128, "num_bands": 64, "max_resolution": None},
          "min_padding": 4,
          "encoder": {
              "num_latents": 512,
              "latent_channels": 512,
              "qk_channels": None,  # None: those of the input array
          },
          "processor": {"layers_per_block": 12, "num_heads": 8},
          "reads": {"num_reads": 1},
          "output": {
              "name": "class_query",
              "query_channels": 1024,
              "decoder": {"num_heads": 1},
          },
      }
  )
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
  config.evals = ("test",)  # names of `sets`
  config.skip_missing = False  # evaluate although clips are missing
  config.windows = 16  # windows of a clip, whose scores are averaged
  config.eval_batch_size = 64  # windows
  config.color_augmentation = 0.8  # fraction of clips with changed colours
  config.video_dropout = 0.3  # fraction of clips without video in training
  config.audio_dropout = 0.0  # fraction of clips without sound in training
  config.spec_augment = ConfigDict({})  # {}: no SpecAugment
  # The papers have 100 epochs and do not give batches and optimizer; these are
  # those of ImageNet.
  config.train_examples = 100 * TRAIN_CLIPS
  config.batch_size = 1024
  config.optimizer = ConfigDict({"name": "lamb", "weight_decay": 0.1})
  config.schedule = ConfigDict({"name": "flat_then_cosine", "peak": 2e-3})
  config.best = "test/map"
  return config
