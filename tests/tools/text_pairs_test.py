import pytest

from tools import text_pairs


def test_half_of_the_pairs_share_their_words():
  sentences = [f"w{i} x{i} y{i} z{i} u{i} v{i}" for i in range(11)]
  pairs = text_pairs.pairs_of(sentences, 26)
  for label, first, second in pairs[::2]:
    assert label == "same"
    assert set(second.split()) <= set(first.split())
  different = [(first, second) for _, first, second in pairs[1::2]]
  assert {label for label, _, _ in pairs[1::2]} == {"different"}
  shared = [set(a.split()) & set(b.split()) for a, b in different]
  assert sum(map(bool, shared)) < len(shared) / 2
  assert all(second for _, _, second in pairs)


@pytest.mark.parametrize(
    ("second", "expected"), [("a b c", 1), ("x y", 0), ("a b x", 2 / 3)]
)
def test_overlap_is_the_fraction_of_shared_words(second, expected):
  example = {"first": "A b c", "second": second}
  assert text_pairs.overlap(example) == pytest.approx(expected)
