"""Packages that only some tasks need, and the extras that have them."""

EXTRAS_OF = {
    "av": ("video", "audio"),
    "kaldi_native_fbank": ("audio",),
    "mwparserfromhell": ("text",),
    "pretty_midi": ("music",),
    "sc2reader": ("starcraft",),
    "sentencepiece": ("text",),
    "skimage": ("image",),
}


def missing(error: ModuleNotFoundError) -> str | None:
  """What to install for an import that failed; None: it is not one of these."""
  package = (error.name or "").partition(".")[0]
  if package not in EXTRAS_OF:
    return None
  extras = " or ".join(f"'.[{extra}]'" for extra in EXTRAS_OF[package])
  return (
      f"the package {package!r} is not installed: pip install -e {extras}, or"
      " '.[all]' for every task"
  )
