import numpy as np
import pytest

from experiments.data.errors import DataError
from experiments.data.sequences import midi
from experiments.data.text.tokenizers import BOS
from experiments.data.text.tokenizers import EOS

# Pitch, velocity, first and last second.
NOTES = [(60, 66, 0.0, 0.5), (64, 66, 0.25, 3.0), (60, 102, 0.5, 0.75)]


def test_notes_come_back_from_their_events():
  ids = midi.encode(NOTES)
  assert ids[0] == BOS and ids[-1] == EOS
  assert ids.max() < midi.VOCABULARY == 394
  back = midi.decode(ids)
  assert [note[0] for note in back] == [60, 64, 60]
  for note, expected in zip(back, NOTES, strict=True):
    np.testing.assert_allclose(note[2:], expected[2:], atol=1e-9)
    assert abs(note[1] - expected[1]) <= 2  # Of 32 loudnesses.


def test_long_waits_are_several_events():
  ids = midi.encode([(60, 66, 2.5, 2.6)])
  assert len(ids) == 2 + 3 + 1 + 1 + 1 + 1  # Waits, loudness, begin, wait, end.


def test_events_in_any_order_are_notes():
  rng = np.random.default_rng(0)
  notes = midi.decode(rng.integers(midi.VOCABULARY, size=500))
  assert notes
  for pitch, velocity, start, end in notes:
    assert 0 <= pitch < 128 and 0 < velocity < 128 and start < end


def test_a_file_is_read_as_it_was_written(tmp_path):
  pytest.importorskip("pretty_midi")
  path = tmp_path / "some.mid"
  ids = midi.encode(NOTES)
  path.write_bytes(midi.content(ids))
  np.testing.assert_array_equal(midi.read(path), ids)


def test_the_pedal_holds_notes_until_it_is_up(tmp_path):
  library = pytest.importorskip("pretty_midi")
  piano = library.Instrument(program=0)
  piano.notes = [library.Note(66, 60, 0.0, 0.2), library.Note(66, 62, 0.4, 2.0)]
  piano.control_changes = [
      library.ControlChange(64, 127, 0.1),
      library.ControlChange(64, 0, 1.0),
  ]
  music = library.PrettyMIDI()
  music.instruments.append(piano)
  music.write(str(tmp_path / "held.mid"))
  held = midi.decode(midi.read(tmp_path / "held.mid"))
  np.testing.assert_allclose([x[3] for x in held], [1.0, 2.0], atol=0.01)


def test_a_file_without_music_is_named(tmp_path):
  pytest.importorskip("pretty_midi")
  path = tmp_path / "broken.mid"
  path.write_bytes(b"MThd no music")
  with pytest.raises(DataError, match=r"broken\.mid"):
    midi.read(path)


def test_a_note_sounds_at_its_pitch_while_it_lasts():
  heard = midi.played(midi.encode([(69, 66, 0.5, 1.0)]), 8000)
  assert heard.dtype == np.float32 and heard.shape == (12_000, 1)
  assert not heard[:4000].any() and not heard[8000:].any()
  heights = np.abs(np.fft.rfft(heard[4000:8000, 0]))
  assert np.argmax(heights) * 2 == 440  # Half a second has steps of 2 Hz.
  assert 0.85 < np.abs(heard).max() <= 0.9


def test_a_piano_roll_shows_what_was_given_in_white_and_the_rest_in_orange():
  ids = midi.encode(NOTES)
  given = 1 + int(np.argmax(ids == midi.encode([(60, 66, 0, 1)])[2]))
  picture = midi.roll(ids, given, columns=150)
  assert picture.shape == (352, 150, 3)
  low, high = (4 * (108 - pitch) for pitch in (60, 64))
  white, orange = picture[low, 10], picture[high, 100]
  assert white[0] == white[1] == white[2] > 150
  assert orange[0] > orange[1] > orange[2]
  assert not picture[low, 40:].any() and not picture[high, :12].any()


def test_files_without_a_table_are_of_the_split_of_their_folder(tmp_path):
  (tmp_path / "own" / "train").mkdir(parents=True)
  for name in ("b.mid", "a.midi"):
    (tmp_path / "own" / "train" / name).touch()
  pieces = midi.Pieces.opened("own", "train", str(tmp_path))
  assert pieces.files == ["train/a.midi", "train/b.mid"]
  with pytest.raises(FileNotFoundError, match="no MIDI files in .*own/test"):
    midi.Pieces.opened("own", "test", str(tmp_path))


def test_a_table_names_the_pieces_of_a_split(tmp_path):
  folder = tmp_path / "maestro"
  with pytest.raises(FileNotFoundError, match="no table .csv in"):
    midi.Pieces.opened("maestro", "train", str(tmp_path))
  folder.mkdir()
  table = folder / "maestro.csv"
  table.write_text("split,midi_filename\ntrain,a.mid\ntest,b.mid\n")
  assert midi.Pieces.opened("maestro", "train", str(tmp_path)).files == [
      "a.mid"
  ]
  with pytest.raises(DataError, match="pieces of 'validation', found none"):
    midi.Pieces.opened("maestro", "validation", str(tmp_path))
  table.write_text("name\na.mid\n")
  with pytest.raises(DataError, match="expected a column 'split'"):
    midi.Pieces.opened("maestro", "train", str(tmp_path))
