import numpy as np
import pytest

from experiments.data.sequences import windows
from experiments.data.text import tokenizers
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS
from experiments.data.text.tokenizers import PAD

IDS = np.arange(100, 120)


def test_a_window_is_filled_up_at_its_front():
  np.testing.assert_array_equal(windows.ending(IDS, 3, 4), [0, 0, *IDS[:3]])
  np.testing.assert_array_equal(windows.ending(IDS, 20, 4), IDS[-5:])


@pytest.mark.parametrize("counted", [1, 3, 7, 19, 40])
@pytest.mark.parametrize("first", [1, 5])
def test_each_element_is_predicted_once_after_what_came_before(counted, first):
  every = windows.Consecutive(IDS, 8, counted, first)
  predicted = []
  for i in range(len(every)):
    window = every[i]
    real = window["tokens"][window["tokens"] != PAD]
    end = int(np.flatnonzero(IDS == real[-1])[0]) + 1
    np.testing.assert_array_equal(real, IDS[max(end - 9, 0) : end])
    predicted += real[-window["counted"] :].tolist()
  if counted <= 8:
    assert predicted == IDS[first:].tolist()
  with pytest.raises(IndexError):
    every[len(every)]


def test_windows_of_several_sequences_follow_each_other():
  sequences = [{"ids": IDS + 100 * i} for i in range(3)]
  every = windows.OfAll(sequences, 20, 8, 7, first=2)
  predicted = [
      every[i]["tokens"][-every[i]["counted"] :] for i in range(len(every))
  ]
  expected = [x["ids"][2:] for x in sequences]
  np.testing.assert_array_equal(
      np.concatenate(predicted), np.concatenate(expected)
  )
  of = [every[i]["sequence"] for i in range(len(every))]
  assert of == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_random_window_ends_anywhere_after_the_least():
  rng, ends = np.random.default_rng(0), set()
  for _ in range(300):
    window = windows.random({"ids": IDS}, rng, 8, 4, least=10)
    last = int(window["tokens"][-1])
    assert window["counted"] == min(IDS.tolist().index(last) + 1 - 10, 4)
    ends.add(last)
    assert window["tokens"].shape == (9,)
  assert ends == set(IDS[10:].tolist())


def test_a_sequence_shorter_than_the_latents_is_read_whole():
  window = windows.random({"ids": IDS[:3]}, np.random.default_rng(0), 8, 4)
  np.testing.assert_array_equal(window["tokens"], [0] * 6 + IDS[:3].tolist())


def test_documents_begin_and_end_where_they_do_in_the_text():
  documents = [b"first", b"second one", b"third"]
  utf8 = tokenizers.utf8()
  whole = windows.stream(documents, utf8, 10**9)[0].tolist()
  assert whole.count(BOS) == whole.count(EOS) == 3
  rng, seen = np.random.default_rng(0), set()
  for _ in range(200):
    window = windows.of_text({"documents": documents}, rng, utf8, 9, 4)
    real = window["tokens"][window["tokens"] != PAD].tolist()
    assert any(
        whole[i : i + len(real)] == real for i in range(len(whole))
    ), tokenizers.decode(np.array(real))
    seen.add(tuple(real))
  assert len(seen) > 8


def test_a_stream_stops_after_enough():
  documents = [b"first", b"second one", b"third"]
  ids, text = windows.stream(documents, tokenizers.utf8(), 6)
  assert text == b"first\nsecond one"
  assert len(ids) == 5 + 10 + 4


def test_the_last_elements_are_predicted_as_often_as_others():
  rng, counts = np.random.default_rng(0), np.zeros(220)
  for _ in range(3000):
    tokens = windows.random({"ids": IDS}, rng, 8, 4, least=8)["tokens"]
    counts[tokens[-4:]] += 1
  inner = counts[IDS][9:-4].mean()
  assert counts[IDS][-4:].min() > 0.8 * inner
