"""Tells whether models of pairs of texts compare the two texts.

    python -m tools.text_pairs --write=FOLDER
    python -m tools.text_pairs --score=RUN,RUN

The first writes a data set of pairs for `configs/glue.py:mini_custom`, from the
sentences of SST-2 and CoLA. Half of the pairs are a sentence and the same
sentence, the others a sentence and another one. Of the second text, three words
in ten are left out.

The second prints Pearson's correlation in percent of STS-B's scores with those
of trained models, with both texts swapped, and with the fraction of words that
two texts share; and the mean score of a text beside itself, which is 5 for a
model that compares.
"""

from collections.abc import Sequence
import pathlib
import random
import re
from typing import Any

from absl import flags
import numpy as np

from configs import base
from experiments import glue
from experiments.data import pipeline
from experiments.data.text import glue as data
from experiments.engine import command
from experiments.engine import weights as weights_lib

_WRITE = flags.DEFINE_string("write", None, "folder to write pairs to")
_SCORE = flags.DEFINE_list("score", [], "folders of runs of STS-B")

WORDS = (5, 22)  # Of a sentence, so that 64 tokens are enough for a pair.
DROPPED = 0.3  # Of the second text's words.
EXAMPLES = {"train": 8000, "validation": 1000}
FILES = {"train": "train.tsv", "validation": "dev.tsv"}


def pairs_of(
    sentences: Sequence[str], count: int
) -> list[tuple[str, str, str]]:
  """Label, first text and second text of each example."""
  rng = random.Random(0)
  order = list(sentences)
  rng.shuffle(order)
  found = []
  for i in range(count):
    first = order[i % len(order)]
    label = ("same", "different")[i % 2]
    second = first if label == "same" else order[rng.randrange(len(order))]
    kept = [word for word in second.split() if rng.random() > DROPPED]
    found.append((label, first, " ".join(kept) or second))
  return found


def write(folder: pathlib.Path, data_dir: str) -> None:
  """Writes both splits of the pairs."""
  folder.mkdir(parents=True, exist_ok=True)
  for split, count in EXAMPLES.items():
    sentences = [
        row["first"]
        for task in ("sst2", "cola")
        for row in data.read(task, split, data_dir)
        if WORDS[0] <= len(row["first"].split()) <= WORDS[1]
    ]
    rows = [("label", "text1", "text2"), *pairs_of(sentences, count)]
    lines = "".join("\t".join(row) + "\n" for row in rows)
    (folder / FILES[split]).write_text(lines)
    print(f"{folder / FILES[split]}: {count} pairs")


def overlap(example: dict[str, Any]) -> float:
  """Words that both texts have, over the geometric mean of their numbers."""
  first, second = (
      set(re.findall(r"\w+", example[key].lower()))
      for key in ("first", "second")
  )
  return len(first & second) / max(1, len(first) * len(second)) ** 0.5


def scores(model, examples, split: str, data_dir: str) -> np.ndarray:
  """The model's score of each pair."""
  config = model.config
  prepared = glue.prepared(
      "stsb",
      split,
      list(config.tasks).index("stsb"),
      data_dir,
      glue.open_tokenizer(config),
      config.max_length,
      [],
      glue.is_framed(config),
      given=examples,
  )
  found = []
  for batch in pipeline.evaluation(
      prepared, [], batch_size=config.batch_size, shard=pipeline.Shard()
  ):
    real = batch.pop("real")
    found.append(np.asarray(model.outputs(batch)["stsb"])[real, 0])
  return np.concatenate(found)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
  """Pearson's, in percent."""
  return 100 * float(np.corrcoef(x, y)[0, 1])


def report(runs: Sequence[str], data_dir: str) -> None:
  """Prints the table."""
  examples = {s: list(data.read("stsb", s, data_dir)) for s in EXAMPLES}
  labels = {s: np.array([e["label"] for e in x]) for s, x in examples.items()}
  for split, rows in examples.items():
    shared = correlation(
        np.array([overlap(row) for row in rows]), labels[split]
    )
    print(f"{split}: {len(rows)} pairs; words that texts share {shared:.1f}")
  for run in runs:
    model = weights_lib.load(run)
    for split, rows in examples.items():
      straight, swapped, alone = (
          scores(model, [row | change(row) for row in rows], split, data_dir)
          for change in (
              lambda row: {},
              lambda row: {"first": row["second"], "second": row["first"]},
              lambda row: {"second": row["first"]},
          )
      )
      print(
          f"{run}, {split}: {correlation(straight, labels[split]):.1f}, swapped"
          f" {correlation(swapped, labels[split]):.1f}; mean score"
          f" {straight.mean():.2f}, of a text beside itself {alone.mean():.2f}"
      )


def main() -> None:
  """Does what the flags say."""
  data_dir = command.DATA_DIR.value or base.DATA_DIR
  if _WRITE.value:
    write(pathlib.Path(_WRITE.value).expanduser(), data_dir)
  if _SCORE.value:
    report(_SCORE.value, data_dir)


if __name__ == "__main__":
  command.run(main, needs_config=False)
