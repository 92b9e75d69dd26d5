"""The papers' tables: the config and the printed numbers of each row.

Rows are the models of this project; those that the papers cite from others are
left out. `scripts/reproduce.py` compares.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from configs import base

# A column's name in `Row.paper`, and its heading.
COLUMNS = {
    "params": "params",
    "flops": "FLOPs",
    "steps_per_second": "steps/s",
    "win_rate": "win rate",
    "top1": "top-1",
    "train_top1": "top-1, training set",
    "map": "mAP",
    "avg": "GLUE average",
    "cola": "CoLA",
    "mnli_m": "MNLI-m",
    "mnli_mm": "MNLI-mm",
    "mrpc": "MRPC",
    "qnli": "QNLI",
    "qqp": "QQP",
    "rte": "RTE",
    "sst2": "SST-2",
    "stsb": "STS-B",
    "bits_per_byte": "bits/byte",
    "clean": "Sintel clean, EPE",
    "final": "Sintel final, EPE",
    "kitti": "KITTI, EPE",
    "scenes": "generated scenes, EPE",
    "homographies": "homographies, EPE",
    "motorcycle": "motorcycle, EPE",
    "log_likelihood": "log-likelihood per selected unit",
    "exact": "exact selections, %",
    "iou": "intersection over union, %",
    "audio_psnr": "audio PSNR",
    "video_psnr": "video PSNR",
}
# A column's name in metrics.jsonl.
METRICS = {
    "top1": "test/top1",
    "train_top1": "training_set/top1",
    "map": "test/map",
    "log_likelihood": "validation/log_likelihood",
    "exact": "validation/exact",
    "iou": "validation/iou",
    "avg": "dev/average",
    "bits_per_byte": "wikipedia/bits_per_byte",
    "audio_psnr": "test/audio_psnr",
    "video_psnr": "test/video_psnr",
    "clean": "sintel_clean/epe",
    "final": "sintel_final/epe",
    "kitti": "kitti_2015/epe",
    "scenes": "scenes/epe",
    "homographies": "homographies/epe",
    "motorcycle": "motorcycle/epe",
    **{
        name: f"dev/{name}"
        for name in "cola mnli_m mnli_mm mrpc qnli qqp rte sst2 stsb".split()
    },
}


@dataclasses.dataclass(frozen=True)
class Reason:
  """The reason why a printed number differs from the model of its row."""

  text: str
  # Further changes to the config with which the number comes out.
  fits: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  # Or the function of scripts/reproduce.py that counts as the paper did.
  count: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
  """One model in one table."""

  label: str
  # NAME:VARIANT, a file of this folder; with TASK in it for all of GLUE's, each
  # of which is a run of its own.
  config: str
  paper: Mapping[str, str]  # By column, with the digits that are printed.
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  reasons: Mapping[str, Reason] = dataclasses.field(default_factory=dict)
  runs: str = ""  # Where its runs are, in the folder of all.
  ending: str = ""  # Of the metrics' names.


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of a paper."""

  title: str
  rows: tuple[Row, ...]
  columns: tuple[str, ...] = ()  # Also those of which the paper has no number.


@dataclasses.dataclass(frozen=True)
class Data:
  """The source of a config's data."""

  # What a person puts there: path -> what it is. Data sets that need no
  # preparation lie in the default DATA_DIR.
  needs: Mapping[str, str]
  commands: tuple[str, ...] = ()  # That prepare it, after "python -m".


_SETS = base.DATA_DIR
_TOKENIZER = (
    "scripts.prepare_data sentencepiece --corpus={} --vocabulary_size={}000"
    " --model={}"
)
_WIKIPEDIA = "a dump of Wikipedia, pages-articles"
_LARGE_TEXT = Data(
    {
        "raw/c4": "C4 as in allenai/c4: en/*.json.gz",
        "raw/enwiki-pages-articles.xml.bz2": _WIKIPEDIA,
    },
    (
        "scripts.prepare_data mlm --c4=raw/c4"
        " --wikipedia=raw/enwiki-pages-articles.xml.bz2",
    ),
)
_LARGE_TOKENIZER = Data(
    _LARGE_TEXT.needs,
    (
        *_LARGE_TEXT.commands,
        _TOKENIZER.format("c4,wikipedia", 32, "~/sentencepiece32000.model"),
    ),
)
_SMALL_TEXT = Data(
    {
        "raw/wikipedia.xml.bz2": f"{_WIKIPEDIA}; a few megabytes are enough",
        "raw/austen": "Jane Austen's novels: *.txt",
    },
    (
        "scripts.prepare_data mlm --wikipedia=raw/wikipedia.xml.bz2"
        " --text=austen=raw/austen --held_out=20",
    ),
)
_REPLAYS = Data(
    {"raw/replays": "games of StarCraft II: *.SC2Replay"},
    ("scripts.prepare_data starcraft2 --manual_dir=raw/replays",),
)
_CIFAR10 = Data({}, ("scripts.prepare_data cifar10",))
_PRETRAIN = Data({f"{_SETS}/imagenet21k": "ImageNet-21k, as TFDS prepares it"})
_FLOW = {
    "autoflow": "AutoFlow, unpacked",
    "sintel": "MPI Sintel, unpacked",
    "kitti_2015": "KITTI 2015, unpacked",
}
# By what the name of a config begins with; the longest counts.
DATA = {
    "audioset:": Data(
        {
            "raw/audioset": (
                "AudioSet's clips, unbalanced_train_segments.csv,"
                " eval_segments.csv, class_labels_indices.csv"
            )
        },
        (
            "scripts.prepare_data audioset"
            " --csv raw/audioset/unbalanced_train_segments.csv"
            " raw/audioset/eval_segments.csv"
            " --classes=raw/audioset/class_labels_indices.csv"
            " --videos=raw/audioset",
        ),
    ),
    "audioset:mini": Data(
        {
            "raw/recordings.zip": "spoken digits: free-spoken-digit-dataset",
            "raw/cifar10.zip": "images of CIFAR-10: CLASS/*.jpg",
        },
        (
            "scripts.prepare_data spoken_images"
            " --recordings=raw/recordings.zip --images=raw/cifar10.zip"
            " --output=raw/spoken_images",
            "scripts.prepare_data audioset --as_name=spoken_images"
            " --csv raw/spoken_images/train.csv raw/spoken_images/test.csv"
            " --classes=raw/spoken_images/class_labels_indices.csv"
            " --videos=raw/spoken_images/clips",
        ),
    ),
    "flow:": Data({f"{_SETS}/{name}": what for name, what in _FLOW.items()}),
    "flow:mini": Data({}),
    "glue:": Data({}, ("scripts.prepare_data glue",)),
    "glue:mini": Data(
        {f"{_SETS}/glue": "CoLA, MRPC, SST-2 and STS2012, unpacked"}
    ),
    "imagenet:": Data(
        {"raw/imagenet": "what `scripts.prepare_data imagenet` asks for"},
        ("scripts.prepare_data imagenet --manual_dir=raw/imagenet",),
    ),
    "imagenet:pretrain": _PRETRAIN,
    "imagenet:mini": _CIFAR10,
    "kinetics:": Data(
        {"raw/kinetics": "Kinetics-700-2020's clips, train.csv, validate.csv"},
        (
            "scripts.prepare_data kinetics --csv raw/kinetics/train.csv"
            " raw/kinetics/validate.csv --videos=raw/kinetics",
        ),
    ),
    "kinetics:mini": Data(
        {"raw/film.mp4": "any film; the numbers are of Big Buck Bunny"},
        (
            "scripts.prepare_data film --video=raw/film.mp4 --output=raw/film"
            " --gain=4",
            "scripts.prepare_data kinetics --as_name=film"
            " --csv raw/film/train.csv raw/film/validate.csv"
            " --videos=raw/film",
        ),
    ),
    "mlm:": _LARGE_TEXT,
    "mlm:bert_base": _LARGE_TOKENIZER,
    "mlm:sentencepiece": _LARGE_TOKENIZER,
    "mlm:mini": Data(
        _SMALL_TEXT.needs,
        (
            *_SMALL_TEXT.commands,
            _TOKENIZER.format(
                "wikipedia,austen", 8, "~/sentencepiece8000.model"
            ),
        ),
    ),
    "mlm:mini_bytes": _SMALL_TEXT,
    "modelnet40:": Data(
        {"raw/modelnet40/ModelNet40.zip": "ModelNet40"},
        ("scripts.prepare_data modelnet40 --manual_dir=raw/modelnet40",),
    ),
    "modelnet40:mini": Data({}, ("scripts.prepare_data shapes",)),
    "starcraft:": _REPLAYS,
}
# What is fine-tuned, and the config that it is pretrained with. Of GLUE's, it
# is the model's in configs/mlm.py.
PRETRAINED = {
    "imagenet:large_fourier": "imagenet:pretrain_fourier",
    "imagenet:large_conv": "imagenet:pretrain_conv",
    "imagenet:mini_finetune": "imagenet:mini_pretrain",
}


def table(title: str, columns: str, *rows: tuple) -> Table:
  """A table from its printed lines.

  Args:
    title: what it shows.
    columns: names from `COLUMNS`.
    *rows: each the label, the config and the numbers, "-" where there is none,
      None where there are none at all; and, if there are any, the other fields
      of `Row`.
  """
  names = columns.split()

  def row(label, config, numbers, *rest):
    numbers = numbers.split() if numbers else ["-"] * len(names)
    paper = dict(zip(names, numbers, strict=True))
    paper = {name: number for name, number in paper.items() if number != "-"}
    return Row(label, config, paper, *rest)

  return Table(title, tuple(row(*line) for line in rows), tuple(names))


FLOW_SIZE = Reason(
    "The size in appendix H is of a model with 16 layers and 1024 latents."
    " The paper's text, its table and the published weights have 24 layers and"
    " 2048 latents.",
    fits={
        "model.processor.layers_per_block": 16,
        "model.encoder.num_latents": 1024,
    },
)
LEARNED_FLOPS = Reason(
    "The paper repeats the number of the Fourier model. Learned positions"
    " have 512 input channels instead of 261."
)
LARGE_FLOPS = {
    "conv": Reason(
        "The number is of 12 layers, and the paper's number of parameters is"
        " of 16 layers.",
        fits={"model.processor.layers_per_block": 12},
    ),
    "fourier": Reason(
        "The number is of 12 layers and pixels with three channels. The paper"
        " describes 16 layers, as in its number of parameters, and pixels"
        " projected to 256 channels.",
        fits={
            "model.processor.layers_per_block": 12,
            "model.input.channels": None,
        },
    ),
}
MASKED_FLOPS = Reason(
    "All positions are counted here. The paper's number results if only the"
    " masked 15 % of the positions count after the processor, except for the"
    " product with the embeddings, which counts at all positions with one FLOP"
    " per multiply-accumulate. The paper cannot have counted all its models"
    " this way: Perceiver IO++ would have 232.7B, and the printed 241B is of"
    " all positions.",
    count="masked_positions",
)

MEL_PARAMETERS = Reason(
    "The number is of an encoder whose queries, keys and values have the"
    " latents' channels. The paper's FLOPs are of an encoder where they have"
    " the channels of the input array.",
    fits={"model.encoder.qk_channels": 1024},
)
KINETICS_TRAINING_FLOPS = Reason(
    "The number is of 1024 latents. The paper's models have 784 or fewer.",
    fits={"model.encoder.num_latents": 1024},
)
KINETICS_EVALUATION_FLOPS = Reason(
    "Unexplained: it results neither from the text's 784 latents nor from the"
    " 1024 latents of the training number."
)
ONE_READ_PARAMETERS = Reason(
    "A misprint: with one cross-attend the two rows are the same model, and"
    " the next row has 42.1M."
)

WHOLE_AGENT = Reason(
    "The number is of the whole agent, AlphaStar. The models here are the"
    " embedding of units, the entity encoder and a pointer network, which are"
    " at most 3 % of the agent."
)
ENTITY_FLOPS = Reason(
    "The paper does not give the widths of latents, queries and MLPs. Here"
    " they are those of the Transformer. The encoder alone has 0.95B."
)

MASKED = {"flops": MASKED_FLOPS}
FLOW = {"params": FLOW_SIZE, "flops": FLOW_SIZE}


def _reads(num_reads, interleave):
  return {
      "model.reads.num_reads": num_reads,
      "model.reads.interleave": interleave,
  }


def _stack(num_reads):
  return {
      "model.processor.num_blocks": 0,
      "model.reads.num_reads": num_reads,
      "model.reads.share_reads": False,
  }


NOTHING_SHARED = {
    "model.reads.share_reads": False,
    "model.processor.share_blocks": False,
}
# Chunks would count the latents' keys, and the label, once each.
ALL_OUTPUTS = {"num_points": 0, "num_chunks": 1}

# Of four tasks; nothing of it is printed anywhere.
_MINI_GLUE = tuple(
    (f"mini, {label}", f"glue:mini_{variant}", None, {}, {}, *rest)
    for label, variant, *rest in (
        ("majority class or mean", "TASK", "", "_constant"),
        ("each task from scratch", "TASK", "scratch"),
        ("each task", "TASK"),
        ("shared input token", "multitask_shared_token"),
        ("an input token each", "multitask_task_tokens"),
        ("a query each", "multitask_queries"),
    )
)
# On generated scenes. What is no model stands beside one.
_MINI_FLOW = tuple(
    (f"mini, {label}", "flow:mini", None, {}, {}, "", ending)
    for label, ending in (
        ("zero flow", "_zero"),
        ("Farnebäck", "_farneback"),
        ("DIS", "_dis"),
        ("convolution", ""),
    )
) + tuple(
    (
        f"mini, {label}, 600 steps",
        f"flow:mini{variant}",
        None,
        {"train_examples": 600 * 16},
    )
    for label, variant in (
        ("3 × 3 patches", "_patches"),
        ("3 × 3 patches, separate frames", "_patches_separate"),
        ("pixels", "_pixels"),
        ("pixels, separate frames", "_pixels_separate"),
        ("convolution", ""),
        ("convolution, separate frames", "_conv_separate"),
    )
)

_MINI_IMAGENET = tuple(
    (f"mini, CIFAR-10: {label}", f"imagenet:mini_{variant}", None)
    for label, variant in (
        ("Perceiver, Fourier features", "perceiver_fourier"),
        ("Perceiver IO, Fourier features", "fourier"),
        ("Perceiver, learned positions", "perceiver_learned"),
        ("Perceiver IO, learned positions", "learned"),
        ("Perceiver, convolution", "perceiver_conv"),
        ("Perceiver IO, convolution", "conv"),
        ("pretrained on five other classes", "finetune"),
        ("those five classes alone", "scratch"),
    )
)

_MINI_AUDIOSET = tuple(
    (f"mini, spoken images: {label}", f"audioset:mini_{variant}", None)
    for label, variant in (
        ("Perceiver, raw audio and video", "perceiver_raw"),
        ("Perceiver IO, raw audio and video", "raw"),
        ("Perceiver, mel-spectrogram and video", "perceiver_mel"),
        ("Perceiver IO, mel-spectrogram and video", "mel"),
        ("Perceiver IO, raw audio", "audio"),
        ("Perceiver IO, mel-spectrogram", "mel_audio"),
        ("Perceiver IO, video", "video"),
    )
)

# On selections in 35 games, measured on those in 12 others. What is no model
# stands beside one.
_MINI_STARCRAFT = tuple(
    (f"mini, {label}", f"starcraft:mini_{variant}", None, {}, {}, "", ending)
    for label, variant, ending in (
        ("uniform over selectable units", "transformer", "_uniform"),
        ("the most frequently selected type", "transformer", "_majority"),
        ("the current selection", "transformer", "_current"),
        ("the previous selection", "transformer", "_previous"),
        ("Transformer", "transformer", ""),
        ("Perceiver IO, 32 latents", "perceiver_io", ""),
        ("Perceiver IO, 64 latents", "perceiver_io_64", ""),
    )
)

# By number; those of the original Perceiver begin with P.
TABLES = {
    "1": table(
        "Perceiver IO, Table 1: language models",
        "params flops steps_per_second avg",
        (
            "BERT Base, SentencePiece, as first published",
            "mlm:bert_base",
            "110M 109B - 81.0",
            {},
            MASKED,
        ),
        (
            "BERT Base, SentencePiece, retrained",
            "mlm:bert_base",
            "110M 109B 7.3 81.1",
            {},
            MASKED,
        ),
        (
            "Perceiver IO Base, SentencePiece",
            "mlm:sentencepiece",
            "223M 119B 7.4 81.2",
            {},
            MASKED,
        ),
        ("BERT, bytes, as many FLOPs", "mlm:bert_bytes", "20M 130B 2.9 71.5"),
        ("Perceiver IO, bytes", "mlm:bytes", "201M 113B 7.6 81.0", {}, MASKED),
        ("Perceiver IO++, bytes", "mlm:bytes_plus_plus", "425M 241B 4.2 81.8"),
        ("mini, SentencePiece; GLUE: four tasks", "mlm:mini", None),
    ),
    "2": table(
        "Perceiver IO, Table 2: all GLUE tasks with one model",
        "avg",
        ("one task, one query", "glue:bytes_TASK", "81.0"),
        ("shared input token", "glue:multitask_shared_token", "81.5"),
        ("an input token per task", "glue:multitask_task_tokens", "81.8"),
        ("a query per task", "glue:multitask_queries", "81.8"),
        *_MINI_GLUE,
    ),
    "3": table(
        "Perceiver IO, Table 3: optical flow; sizes from appendix H",
        "params flops clean final kitti",
        ("Perceiver IO", "flow:patches", "27.9M 987B 1.81 2.42 4.98", {}, FLOW),
        ("mini, generated scenes", "flow:mini", None),
    ),
    "4": table(
        "Perceiver IO, Table 4: autoencoding of Kinetics",
        "audio_psnr video_psnr top1",
        ("compressed 88 times", "kinetics:latents_784", "26.97 24.37 10.2"),
        ("compressed 176 times", "kinetics:latents_392", "25.33 24.27 8.6"),
        ("compressed 352 times", "kinetics:latents_196", "14.15 23.21 11.5"),
        # The text of §4.3.
        (
            "compressed 88 times, the class's loss weighted 1",
            "kinetics:latents_784",
            "- 20.7 45",
            {"loss_weights.label": 1.0},
        ),
        ("mini, a film: compressed 6 times", "kinetics:mini_32", None),
        ("mini, a film: compressed 12 times", "kinetics:mini_16", None),
        ("mini, a film: compressed 25 times", "kinetics:mini_8", None),
        ("mini, a film: compressed 98 times", "kinetics:mini_2", None),
        *(
            (
                f"mini, a film: {label}",
                "kinetics:mini_32",
                None,
                {},
                {},
                "",
                guess,
            )
            for label, guess in (
                ("silence", "_silence"),
                ("a clip's mean colour", "_mean_color"),
                ("a clip's mean frame", "_mean_frame"),
            )
        ),
    ),
    "7": table(
        "Perceiver IO, Table 7: ImageNet",
        "top1 flops params",
        (
            "Perceiver, Fourier features",
            "imagenet:perceiver_fourier",
            "78.6 404B 42.1M",
        ),
        (
            "Perceiver IO, config A, Fourier features",
            "imagenet:fourier",
            "79.0 407B 48.4M",
        ),
        (
            "Perceiver IO, config B, Fourier features, pretrained",
            "imagenet:large_fourier",
            "84.5 213B 212M",
            {},
            {"flops": LARGE_FLOPS["fourier"]},
        ),
        (
            "Perceiver, learned positions",
            "imagenet:perceiver_learned",
            "67.6 404B 55.9M",
            {},
            {"flops": LEARNED_FLOPS},
        ),
        (
            "Perceiver IO, config A, learned positions",
            "imagenet:learned",
            "72.7 407B 62.3M",
            {},
            {"flops": LEARNED_FLOPS},
        ),
        (
            "Perceiver, convolution",
            "imagenet:perceiver_conv",
            "77.4 367B 42.1M",
        ),
        (
            "Perceiver IO, config A, convolution",
            "imagenet:conv",
            "82.1 369B 48.6M",
        ),
        (
            "Perceiver IO, config B, convolution, pretrained",
            "imagenet:large_conv",
            "86.4 176B 212M",
            {},
            {"flops": LARGE_FLOPS["conv"]},
        ),
        *_MINI_IMAGENET,
    ),
    "8": table(
        "Perceiver IO, Table 8: speed of ImageNet training on 64 TPU v3",
        "steps_per_second",
        ("Perceiver, Fourier features", "imagenet:perceiver_fourier", "4.73"),
        ("Perceiver IO, Fourier features", "imagenet:fourier", "4.85"),
        ("Perceiver, learned positions", "imagenet:perceiver_learned", "4.16"),
        ("Perceiver IO, learned positions", "imagenet:learned", "4.14"),
        ("Perceiver, convolution", "imagenet:perceiver_conv", "4.73"),
        ("Perceiver IO, convolution", "imagenet:conv", "5.58"),
        # Of which input, the paper does not say.
        (
            "Perceiver IO, config B, pretrained",
            "imagenet:large_fourier",
            "6.41",
        ),
    ),
    "9": table(
        "Perceiver IO, Table 9: entity encoders for StarCraft II",
        "win_rate params flops steps_per_second log_likelihood exact iou",
        (
            "Transformer",
            "starcraft:transformer",
            "0.87 144M 3.3B 2.9 - - -",
            {},
            {"params": WHOLE_AGENT},
        ),
        (
            "Perceiver IO, 32 latents",
            "starcraft:perceiver_io",
            "0.87 140M 0.93B 2.9 - - -",
            {},
            {"params": WHOLE_AGENT, "flops": ENTITY_FLOPS},
        ),
        ("Perceiver IO, 64 latents", "starcraft:perceiver_io_64", None),
        *_MINI_STARCRAFT,
    ),
    "10": table(
        "Perceiver IO, Table 10: AudioSet",
        "map params flops steps_per_second",
        (
            "Perceiver, raw audio and video",
            "audioset:perceiver_raw",
            "42.4 21.0M 52.3B 3.8",
        ),
        (
            "Perceiver IO, raw audio and video",
            "audioset:raw",
            "43.3 25.0M 52.9B 3.8",
        ),
        (
            "Perceiver, mel-spectrogram and video",
            "audioset:perceiver_mel",
            "43.6 21.0M 60.7B 3.8",
        ),
        (
            "Perceiver IO, mel-spectrogram and video",
            "audioset:mel",
            "44.9 88.2M 129.5B 3.8",
            {},
            {"params": MEL_PARAMETERS},
        ),
        *_MINI_AUDIOSET,
    ),
    "14": table(
        "Perceiver IO, Table 14: GLUE, task by task",
        "cola mnli_m mnli_mm mrpc qnli qqp rte sst2 stsb avg",
        (
            "BERT Base, as first published",
            "glue:bert_base_TASK",
            "52.10 84.60 83.40 84.80 90.50 89.20 66.40 93.50 87.10 80.95",
        ),
        (
            "BERT Base, retrained",
            "glue:bert_base_TASK",
            "50.28 85.56 85.68 85.75 92.67 91.05 61.72 93.98 88.04 81.14",
        ),
        (
            "Perceiver IO Base, SentencePiece",
            "glue:sentencepiece_TASK",
            "47.11 84.53 85.03 87.25 92.12 90.22 65.23 94.38 88.18 81.16",
        ),
        (
            "BERT, bytes",
            "glue:bert_bytes_TASK",
            "20.06 74.11 75.55 77.00 85.75 88.23 53.91 89.00 82.84 71.45",
        ),
        (
            "Perceiver IO, bytes",
            "glue:bytes_TASK",
            "50.19 83.22 83.89 87.24 91.71 90.12 64.84 93.17 86.81 80.95",
        ),
        (
            "Perceiver IO++, bytes",
            "glue:bytes_plus_plus_TASK",
            "52.54 84.13 84.91 86.03 92.06 90.46 66.54 93.98 87.93 81.76",
        ),
        (
            "all tasks, shared input token",
            "glue:multitask_shared_token",
            "47.43 82.03 82.65 89.58 90.18 89.20 82.03 93.17 77.95 81.49",
        ),
        (
            "all tasks, an input token each",
            "glue:multitask_task_tokens",
            "49.06 82.14 82.64 89.84 90.53 89.40 79.69 93.17 80.02 81.76",
        ),
        (
            "all tasks, a query each",
            "glue:multitask_queries",
            "47.88 82.05 82.77 90.36 90.37 89.49 80.08 93.75 79.95 81.79",
        ),
        *_MINI_GLUE,
    ),
    "15": table(
        "Perceiver IO, Table 15: latents and their width, bytes",
        "flops avg bits_per_byte",
        ("128 latents × 1920", "mlm:bytes_128", "120B 75.84 -", {}, MASKED),
        ("256 latents × 1280", "mlm:bytes", "113B 80.95 -", {}, MASKED),
        ("512 latents × 896", "mlm:bytes_512", "125B 80.92 -", {}, MASKED),
        ("mini, SentencePiece, 16 latents × 200", "mlm:mini_16", None),
        ("mini, SentencePiece, 32 latents × 128", "mlm:mini", None),
        ("mini, SentencePiece, 64 latents × 72", "mlm:mini_64", None),
        ("mini, bytes, 64 latents × 128", "mlm:mini_bytes", None),
    ),
    "16": table(
        "Perceiver IO, Table 16: optical flow from different inputs",
        "clean final kitti scenes homographies motorcycle",
        ("3 × 3 patches", "flow:patches", "1.81 2.42 4.98 - - -"),
        (
            "3 × 3 patches, separate frames",
            "flow:patches_separate",
            "1.78 2.70 6.19 - - -",
        ),
        ("pixels", "flow:pixels", "1.91 2.56 5.39 - - -"),
        (
            "pixels, separate frames",
            "flow:pixels_separate",
            "1.72 2.63 5.93 - - -",
        ),
        ("convolution", "flow:conv", "1.84 2.52 4.83 - - -"),
        (
            "convolution, separate frames",
            "flow:conv_separate",
            "1.90 2.53 6.66 - - -",
        ),
        (
            "convolution, 16 layers, 1024 latents",
            "flow:conv_small",
            "2.06 2.67 6.12 - - -",
        ),
        *_MINI_FLOW,
    ),
    "17": table(
        "Perceiver IO, Table 17: size of the Kinetics autoencoder",
        "params flops steps_per_second",
        (
            "training: 1,025 outputs",
            "kinetics:latents_784",
            "20.0M 310B 4.4",
            {},
            {"flops": KINETICS_TRAINING_FLOPS},
        ),
        (
            "evaluation: all outputs",
            "kinetics:latents_784",
            "- 6.85T -",
            ALL_OUTPUTS,
            {"flops": KINETICS_EVALUATION_FLOPS},
        ),
    ),
    "P3": table(
        "Perceiver, Table 3: AudioSet",
        "map",
        ("raw audio", "audioset:repeated_raw_audio", "38.3"),
        ("video", "audioset:repeated_video", "25.8"),
        ("raw audio and video", "audioset:repeated_raw", "43.5"),
        ("mel-spectrogram", "audioset:repeated_mel_audio", "38.4"),
        ("mel-spectrogram and video", "audioset:repeated_mel", "43.2"),
        (
            "mel-spectrogram and video, tuned",
            "audioset:repeated_mel_tuned",
            "44.2",
        ),
        *_MINI_AUDIOSET,
    ),
    "P4": table(
        "Perceiver, Table 4: ModelNet40",
        "top1",
        ("Perceiver", "modelnet40:perceiver", "85.7"),
        ("mini, generated shapes", "modelnet40:mini", None),
    ),
    "P2": table(
        "Perceiver, Table 2: permuted pixels",
        "top1",
        *(
            (
                f"{label}{', permuted' * permuted}",
                f"imagenet:{name}",
                number,
                {"permuted": True} if permuted else {},
            )
            for name, label, number in (
                ("repeated", "Fourier features", "78.0"),
                ("first_learned", "learned positions", "70.9"),
            )
            for permuted in (False, True)
        ),
        *(
            (
                f"mini, CIFAR-10: {label}{', permuted' * permuted}",
                f"imagenet:mini_perceiver_{name}",
                None,
                {"permuted": True} if permuted else {},
            )
            for name, label in (
                ("fourier", "Fourier features"),
                ("learned", "learned positions"),
                ("conv", "convolution"),
            )
            for permuted in (False, True)
        ),
    ),
    "P5": table(
        "Perceiver, Table 5: ImageNet, cross-attends alone",
        "top1 flops params",
        (
            "4 cross-attends",
            "imagenet:repeated",
            "39.4 173.1B 12.7M",
            _stack(4),
        ),
        (
            "8 cross-attends",
            "imagenet:repeated",
            "45.3 346.1B 23.8M",
            _stack(8),
        ),
        ("12 cross-attends", "imagenet:repeated", "- 519.2B 34.9M", _stack(12)),
    ),
    "P6": table(
        "Perceiver, Table 6: ImageNet, number and place of cross-attends",
        "top1 flops params",
        (
            "1 at start",
            "imagenet:repeated",
            "76.7 404.3B 41.1M",
            _reads(1, False),
            {"params": ONE_READ_PARAMETERS},
        ),
        (
            "1 interleaved",
            "imagenet:repeated",
            "76.7 404.3B 42.1M",
            _reads(1, True),
        ),
        (
            "2 at start",
            "imagenet:repeated",
            "76.7 447.6B 44.9M",
            _reads(2, False),
        ),
        (
            "2 interleaved",
            "imagenet:repeated",
            "76.5 447.6B 44.9M",
            _reads(2, True),
        ),
        (
            "4 at start",
            "imagenet:repeated",
            "75.9 534.1B 44.9M",
            _reads(4, False),
        ),
        (
            "4 interleaved",
            "imagenet:repeated",
            "76.5 534.1B 44.9M",
            _reads(4, True),
        ),
        (
            "8 at start",
            "imagenet:repeated",
            "73.7 707.2B 44.9M",
            _reads(8, False),
        ),
        (
            "8 interleaved",
            "imagenet:repeated",
            "78.0 707.2B 44.9M",
            _reads(8, True),
        ),
        *(
            (
                f"mini, CIFAR-10: {number} {where}",
                "imagenet:mini_repeated",
                None,
                _reads(number, where == "interleaved"),
            )
            for number in (1, 2, 4)
            for where in ("at start", "interleaved")
        ),
    ),
    "P7": table(
        "Perceiver, Table 7: ImageNet, shared weights or not",
        "train_top1 top1 flops params",
        (
            "8 cross-attends, nothing shared",
            "imagenet:repeated",
            "87.7 72.9 707.2B 326.2M",
            NOTHING_SHARED,
        ),
        (
            "8 cross-attends, shared weights",
            "imagenet:repeated",
            "79.5 78.0 707.2B 44.9M",
        ),
        (
            "mini, CIFAR-10: 4 cross-attends, nothing shared",
            "imagenet:mini_repeated",
            None,
            NOTHING_SHARED,
        ),
        (
            "mini, CIFAR-10: 4 cross-attends, shared weights",
            "imagenet:mini_repeated",
            None,
        ),
    ),
}
