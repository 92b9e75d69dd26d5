"""Pictures of batches, and of what a classifier confuses."""

from matplotlib import colors
import numpy as np

from experiments.engine import figures


def of_pairs(pairs, num_classes, monkeypatch):
  """The texts of the matrix: (names, counts), and the picture."""
  texts = []
  real = figures.matplotlib.figure.Figure.subplots

  def subplots(self, *args, **kwargs):
    ax = real(self, *args, **kwargs)
    texts.append(ax)
    return ax

  monkeypatch.setattr(figures.matplotlib.figure.Figure, "subplots", subplots)
  label, predicted = np.array(pairs).T
  names = [f"name {i}" for i in range(num_classes)]
  drawn = figures.confusion({"label": label, "predicted": predicted}, names)
  (ax,) = texts
  shown = [tick.get_text() for tick in ax.get_yticklabels()]
  counts = {(int(t._y), int(t._x)): int(t.get_text()) for t in ax.texts}
  return shown, counts, drawn["confusion"]


def test_a_matrix_counts_what_is_taken_for_what_by_name(monkeypatch):
  pairs = [(0, 0), (0, 0), (0, 2), (1, 1), (2, 1), (-1, 2)]
  names, counts, picture = of_pairs(pairs, 3, monkeypatch)
  assert names == ["name 0", "name 1", "name 2"]
  assert counts == {(0, 0): 2, (0, 2): 1, (1, 1): 1, (2, 1): 1}
  assert picture.dtype == np.uint8 and picture.shape[-1] == 3
  assert picture.std() > 1


def test_of_many_classes_the_most_confused_are_shown(monkeypatch):
  pairs = [(i, i) for i in range(100)] + [(7, 70), (70, 7), (99, 7)]
  names, counts, _ = of_pairs(pairs, 100, monkeypatch)
  assert len(names) == figures.MOST_CLASSES
  assert {"name 7", "name 70", "name 99"} <= set(names)
  at = {name: i for i, name in enumerate(names)}
  assert counts[at["name 99"], at["name 7"]] == 1


def test_classes_without_names_have_numbers():
  assert figures.names_of((), 2) == ["0", "1"]
  assert figures.names_of(("cat", "dog"), 2) == ["cat", "dog"]


def test_the_label_of_a_colour_bar_is_inside_the_figure():
  def show(ax, i):
    ax.plot([0, i], [0, 3])
    ax.set_aspect("equal")

  scale = figures.Scale("a label (with j)", colors.Normalize(0, 1))
  picture = figures.sixteen(16, show, "title", (7.0, 11.0), scale)
  for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
    assert (edge == 255).all()
