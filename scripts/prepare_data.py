"""Writes a data set in the form that the tasks read.

    python -m scripts.prepare_data digits [--data_dir=DIR] [--manual_dir=DIR]

The name is that of a module in experiments/data/builders.
"""

import argparse
import importlib
import pathlib
import pkgutil
import sys

import tensorflow_datasets as tfds

from experiments.data import builders


def main(argv: list[str] | None = None) -> None:
  """Prepares one data set; one that is there already is left as it is."""
  names = sorted(m.name for m in pkgutil.iter_modules(builders.__path__))
  parser = argparse.ArgumentParser(prog="python -m scripts.prepare_data")
  parser.add_argument("name", choices=names)
  parser.add_argument("--data_dir", default="~/tensorflow_datasets")
  parser.add_argument("--manual_dir", help="what you downloaded by hand")
  args = parser.parse_args(argv)
  importlib.import_module(f"experiments.data.builders.{args.name}")
  builder = tfds.builder(
      args.name,
      data_dir=pathlib.Path(args.data_dir).expanduser(),
      file_format="array_record",
  )
  manual_dir = args.manual_dir and pathlib.Path(args.manual_dir).expanduser()
  builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
  )
  sizes = {name: s.num_examples for name, s in builder.info.splits.items()}
  print(f"{args.name}: {sizes} in {builder.data_path}")


if __name__ == "__main__":
  main(sys.argv[1:])
