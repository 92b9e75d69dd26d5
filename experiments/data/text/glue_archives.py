"""GLUE's archives, unpacked as `glue.read` finds their files.

Source: https://gluebenchmark.com/tasks.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
import re

from experiments.data import archives
from experiments.data import atomic
from experiments.data import published
from experiments.data.errors import DataError
from experiments.data.text import glue
from experiments.data.text.glue_files import lines_of

_GLUE = "https://dl.fbaipublicfiles.com/glue/data/"
_MRPC = "https://dl.fbaipublicfiles.com/senteval/senteval_data/"


def _zip(name: str, size: int, sha256: str) -> tuple[published.File]:
  return (published.File(name, size, _GLUE + name, sha256),)


# What each task is made of. MRPC's authors allow no copies: its corpus comes
# from elsewhere, and GLUE says which pairs are its validation split.
FILES: Mapping[str, Sequence[published.File]] = {
    "cola": _zip(
        "CoLA.zip",
        376_971,
        "f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
    ),
    "mnli": _zip(
        "MNLI.zip",
        312_783_507,
        "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
    ),
    "mrpc": (
        published.File(
            "msr_paraphrase_train.txt",
            1_047_044,
            f"{_MRPC}msr_paraphrase_train.txt",
            "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
        ),
        published.File(
            "msr_paraphrase_test.txt",
            441_275,
            f"{_MRPC}msr_paraphrase_test.txt",
            "a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
        ),
        published.File(
            "data_mrpc_dev_ids.tsv",
            6_222,
            "https://firebasestorage.googleapis.com/v0/b/mtl-sentence-"
            "representations.appspot.com/o/data%2Fmrpc_dev_ids.tsv?alt=media&"
            "token=ec5c0836-31d5-48f4-b431-7480817f1adc",
            "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7",
        ),
    ),
    "qnli": _zip(
        "QNLIv2.zip",
        10_627_589,
        "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
    ),
    "qqp": _zip(
        "QQP.zip",
        41_696_084,
        "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
    ),
    "rte": _zip(
        "RTE.zip",
        697_150,
        "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee",
    ),
    "sst2": _zip(
        "SST-2.zip",
        7_439_277,
        "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
    ),
    "stsb": _zip(
        "STS-B.zip",
        802_872,
        "e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85",
    ),
}


def unpack(
    task: str, files: Sequence[pathlib.Path], folder: pathlib.Path
) -> None:
  """Writes FOLDER/TASK/{train,dev,test}.tsv, as GLUE names them.

  Args:
    task: a task of `FILES`.
    files: where its files are.
    folder: DATA_DIR/glue.

  Raises:
    DataError: if a file is damaged or another one.
  """
  made = folder / glue.TASKS[task].folder
  if task == "mrpc":
    train, test, dev_ids = files
    _make_mrpc(train, test, dev_ids, made)
    return
  with archives.open_zip(files[0]) as opened:
    split = re.compile(rf"{made.name}/((?:train|dev|test)\w*\.tsv)")
    names = {
        found[1]: name
        for name in opened.namelist()
        if (found := split.fullmatch(name))
    }
    if "train.tsv" not in names:
      raise DataError(f"{files[0]} has no {made.name}/train.tsv")
    for file, name in names.items():
      atomic.write(made / file, archives.unzipped(opened, name))


def _make_mrpc(
    train: pathlib.Path,
    test: pathlib.Path,
    dev_ids: pathlib.Path,
    folder: pathlib.Path,
) -> None:
  """MRPC's files as GLUE has them, from the corpus and a list of pairs."""
  held_out = {tuple(line.split("\t")[:2]) for line in lines_of(dev_ids)}
  header, *lines = lines_of(train)
  splits: dict[str, list[str]] = {"train": [header], "dev": [header]}
  for line in lines:
    ids = tuple(line.split("\t")[1:3])
    splits["dev" if ids in held_out else "train"].append(line)
  first, *lines = lines_of(test)
  splits["test"] = [first.replace("Quality", "index", 1)]
  # Its answers are known, but GLUE keeps them: they are left out.
  for i, line in enumerate(lines):
    _, tab, rest = line.partition("\t")
    splits["test"].append(f"{i}{tab}{rest}")
  for name, rows in splits.items():
    atomic.write(folder / f"{name}.tsv", "\n".join([*rows, ""]).encode())
