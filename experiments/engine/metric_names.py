"""Names, units and baselines of metrics for figures and reports."""

from collections.abc import Collection
from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
  """A kind of metric."""

  title: str
  unit: str = ""
  is_cost: bool = False  # The smaller, the better.


# The first of these that a run has stands above its results.
KINDS = {
    "average": Kind("GLUE average", "points"),
    "map": Kind("mean average precision", "%"),
    "top1": Kind("top-1 accuracy", "%"),
    "top5": Kind("top-5 accuracy", "%"),
    "epe": Kind("end-point error", "pixels", True),
    "bits_per_byte": Kind("bits per byte", "", True),
    "bits_per_value": Kind("bits per value", "", True),
    "bits_per_element": Kind("bits per element", "", True),
    "video_psnr": Kind("PSNR of video", "dB"),
    "audio_psnr": Kind("PSNR of sound", "dB"),
    "log_likelihood": Kind("log-likelihood of a selected unit", "nats"),
    "exact": Kind("exact selections", "%"),
    "exact_match": Kind("windows without an error"),
    "exact_sequences": Kind("whole sequences without an error"),
    "iou": Kind("intersection over union", "%"),
    "cola": Kind("CoLA, Matthews' correlation × 100"),
    "mnli_m": Kind("MNLI matched, accuracy", "%"),
    "mnli_mm": Kind("MNLI mismatched, accuracy", "%"),
    "mrpc": Kind("MRPC, accuracy", "%"),
    "qnli": Kind("QNLI, accuracy", "%"),
    "qqp": Kind("QQP, accuracy", "%"),
    "rte": Kind("RTE, accuracy", "%"),
    "sst2": Kind("SST-2, accuracy", "%"),
    "stsb": Kind("STS-B, Pearson's correlation × 100"),
    "accuracy": Kind("accuracy"),
    "fl_all": Kind("outliers (Fl-all)", "%", True),
    "clean_epe": Kind("end-point error without noise", "pixels", True),
    "change": Kind("change of the flow by noise", "pixels²", True),
    "nats": Kind("cross-entropy", "nats", True),
    "perplexity": Kind("perplexity", "", True),
    "loss": Kind("loss", "", True),
    "grad_norm": Kind("norm of the gradient"),
    "learning_rate": Kind("learning rate"),
    "steps_per_second": Kind("speed", "steps/s"),
    "examples_per_second": Kind("speed", "examples/s"),
    "input_bound_fraction": Kind("fraction of the time waiting for input"),
    "utilisation": Kind("fraction of the peak FLOP/s"),
}
# What the names of baselines' metrics end or begin with.
ENDINGS = {
    "zero": "zero flow",
    "farneback": "Farnebäck",
    "dis": "DIS",
    "constant": "constant prediction",
    "silence": "silence",
    "mean_color": "mean colour of the clip",
    "mean_frame": "mean frame of the clip",
    "uniform": "all own units alike",
    "majority": "most selected type",
    "previous": "previous selection",
    "current": "current selection",
}
BEGINNINGS = {
    "unigram": "unigram baseline",
    "left_bigram": "left-bigram baseline",
    "ngram": "n-gram baseline",
    "xz_after_training": "xz after the training text",
    "xz": "xz",
}


class Name(NamedTuple):
  """The parts of a metric's name, EVAL/METRIC."""

  part: str  # The eval, or "train" or "speed".
  metric: str  # Without what names a baseline.
  baseline: str  # Its title; "": the model's own.

  @property
  def key(self) -> str:
    """The name of the model's own metric."""
    return f"{self.part}/{self.metric}" if self.part else self.metric

  @property
  def kind(self) -> Kind:
    """The kind of the metric; by default the words of its name."""
    return KINDS.get(self.metric) or Kind(self.metric.replace("_", " "))

  @property
  def label(self) -> str:
    """The title with the unit, for an axis."""
    title, unit, _ = self.kind
    return f"{title} ({unit})" if unit else title


def parsed(name: str) -> Name:
  """Parses a metric's name."""
  part, _, metric = name.rpartition("/")
  for ending, title in ENDINGS.items():
    if metric.endswith(f"_{ending}") and metric not in KINDS:
      return Name(part, metric.removesuffix(f"_{ending}"), title)
  for beginning, title in BEGINNINGS.items():
    if metric.startswith(f"{beginning}_") and metric not in KINDS:
      return Name(part, metric.removeprefix(f"{beginning}_"), title)
  return Name(part, metric, "")


def baselines(metrics: Mapping[str, float], name: str) -> dict[str, float]:
  """Title -> value of the baselines of a metric, among several metrics."""
  own = parsed(name)
  found = {parsed(other): value for other, value in metrics.items()}
  return {
      other.baseline: value
      for other, value in found.items()
      if other.baseline and (other.part, other.metric) == own[:2]
  }


def ordered(names: Collection[str]) -> list[str]:
  """The model's metrics of evals, in the order in which they are shown."""
  own = []
  for name in names:
    part, metric, baseline = parsed(name)
    if part not in ("", "train", "speed") and not baseline:
      own.append((metric, name))
  order = list(KINDS)
  place = lambda metric: order.index(metric) if metric in order else len(order)
  return [name for _, name in sorted(own, key=lambda pair: place(pair[0]))]
