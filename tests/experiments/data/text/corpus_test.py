"""Corpora of text: what is kept, what is told, and what survives."""

import bz2
import gzip
import json
import pathlib
import pickle
from xml.sax import saxutils

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.data.errors import DataError
from experiments.data.text import corpus
from experiments.data.text import documents
from experiments.data.text import sources


def write_c4(folder, split, number, lines):
  """A file of C4; bytes are lines as they are."""
  folder.mkdir(exist_ok=True)
  raw = [
      line
      if isinstance(line, bytes)
      else json.dumps({"text": line, "timestamp": "2019", "url": "u"}).encode()
      for line in lines
  ]
  file = folder / f"c4-{split}.{number:05d}-of-00008.json.gz"
  file.write_bytes(gzip.compress(b"".join(line + b"\n" for line in raw)))
  return file


PAGE = """<page><title>{title}</title><ns>{namespace}</ns><id>7</id>{redirect}
<revision><id>1</id><model>wikitext</model><format>text/x-wiki</format>
<text bytes="9" xml:space="preserve">{text}</text></revision></page>
"""
SITE = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">
<siteinfo><namespaces><namespace key="0" /><namespace key="6">Datei</namespace>
</namespaces></siteinfo>
"""


def page(title, wikitext, namespace=0, redirect=""):
  return PAGE.format(
      title=saxutils.escape(title),
      text=saxutils.escape(wikitext),
      namespace=namespace,
      redirect=redirect,
  )


def write_dump(file, pages, end="</mediawiki>"):
  content = (SITE + "".join(pages) + end).encode()
  file.write_bytes(bz2.compress(content) if file.suffix == ".bz2" else content)
  return file


def prepared(made_of, folder, processes=1):
  """What has come out, and what was told."""
  notes = []
  index = corpus.prepare(
      made_of, str(folder), processes=processes, note=notes.append
  )
  return index, notes


def read(name, split, folder):
  """All documents; `open_documents` holds some out where there is one split."""
  place = corpus.Folder(pathlib.Path(folder) / name)
  splits = corpus._read_index(place)["splits"]
  found = corpus._of_shards(place, split, splits)
  return [found[i].decode() for i in range(len(found))]


def contents(folder):
  """The bytes of all files."""
  files = (file for file in folder.rglob("*") if file.is_file())
  return {str(f.relative_to(folder)): f.read_bytes() for f in files}


class TestC4:

  def test_each_line_is_a_document_of_the_split_in_the_files_name(
      self, tmp_path
  ):
    lines = [f"Text {i}\n\nof several lines: ü." for i in range(7)]
    write_c4(tmp_path / "c4", "train", 1, lines[4:6])
    write_c4(tmp_path / "c4", "train", 0, lines[:4])
    write_c4(tmp_path / "c4", "validation", 0, lines[6:])
    index, notes = prepared(sources.c4([str(tmp_path / "c4")]), tmp_path / "d")
    assert read("c4", "train", tmp_path / "d") == lines[:6]
    assert read("c4", "validation", tmp_path / "d") == lines[6:]
    train = index["splits"]["train"]
    assert train["documents"] == 6 and len(train["shards"]) == 2
    assert train["bytes"] == sum(len(line.encode()) for line in lines[:6])
    assert not notes and not index["dropped"]

  @pytest.mark.parametrize(
      ("kind", "line"),
      [
          ("invalid UTF-8", b'{"text": "\xff"}'),
          ("invalid UTF-8", b'{"text": "\\ud800"}'),
          ("malformed JSON", b'{"text": "a'),
          ("malformed JSON", b"[" * 100_000),
          ("JSON without text", b'{"url": "u"}'),
          ("JSON without text", b'{"text": 3}'),
          ("JSON without text", b"[]"),
          ("empty", b'{"text": " \\n"}'),
      ],
  )
  def test_a_bad_line_is_told_counted_and_left_out(self, tmp_path, kind, line):
    file = write_c4(tmp_path, "train", 3, ["first", line, "last"])
    index, notes = prepared(sources.c4([str(file)]), tmp_path)
    assert read("c4", "train", tmp_path) == ["first", "last"]
    assert index["dropped"] == {kind: 1}
    (note,) = notes
    assert note.startswith(f"{file.name}, line 2: {kind}")

  def test_ten_of_a_kind_are_told_for_each_file_and_all_are_counted(
      self, tmp_path
  ):
    for number in (0, 1):
      write_c4(tmp_path, "train", number, [b"{"] * 23 + [""] * 3 + ["text"])
    index, notes = prepared(sources.c4([str(tmp_path)]), tmp_path)
    assert index["dropped"] == {"malformed JSON": 46, "empty": 6}
    assert len(notes) == 2 * (documents.TOLD + 3)

  @pytest.mark.parametrize("damage", ["cut off", "changed"])
  def test_a_broken_archive_keeps_what_is_before_the_break(
      self, tmp_path, damage
  ):
    rng = np.random.default_rng(3)
    lines = [rng.bytes(500).hex() for _ in range(400)]
    file = write_c4(tmp_path, "train", 0, lines)
    raw = bytearray(file.read_bytes())
    if damage == "cut off":
      raw = raw[: len(raw) // 2]
    else:
      raw[len(raw) // 2 :] = b"\xff" * (len(raw) // 2)
    file.write_bytes(raw)
    index, notes = prepared(sources.c4([str(file)]), tmp_path)
    kept = read("c4", "train", tmp_path)
    assert 100 < len(kept) < 300 and kept == lines[: len(kept)]
    assert index["dropped"]["broken archive"] == 1
    assert f"{file.name}, line " in notes[-1] and "broken archive" in notes[-1]

  def test_a_file_whose_name_tells_no_split_is_refused(self, tmp_path):
    file = tmp_path / "c4-test.json.gz"
    file.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(DataError, match="c4-train.00000-of-01024"):
      sources.c4([str(file)])


class TestWikipedia:

  def test_articles_are_cleaned_and_what_is_none_is_counted(self, tmp_path):
    file = write_dump(
        tmp_path / "dewiki-pages-articles.xml.bz2",
        [
            page("A", "'''A''' is [[b|a <letter>]].{{cite}}[[Datei:A.png|x]]"),
            page("Talk:A", "No.", namespace=1),
            page("B", "#REDIRECT [[A]]", redirect='<redirect title="A" />'),
            page("C", "{{box|a=1}}\n"),
            page("D", "It is ''this''."),
        ],
    )
    made_of = sources.wikipedia_dumps([str(file)], held_out=0)
    index, notes = prepared(made_of, tmp_path)
    assert read("wikipedia", "train", tmp_path) == ["A is a.", "It is this."]
    expected = {"not an article": 1, "redirect": 1, "empty": 1}
    assert index["dropped"] == expected
    assert notes == [f"{file.name}, page 'C': empty"]

  @pytest.mark.parametrize(
      ("end", "reason"),
      [
          ("<page><title>Z</page>", "mismatched tag"),
          ("<page><title>\x01", "not well-formed"),
          ("", "no element found"),
      ],
  )
  def test_malformed_xml_keeps_the_articles_before_it(
      self, tmp_path, end, reason
  ):
    file = write_dump(tmp_path / "a.xml", [page("A", "One."), "\n\n"], end)
    made_of = sources.wikipedia_dumps([str(file)], held_out=0)
    index, notes = prepared(made_of, tmp_path)
    assert read("wikipedia", "train", tmp_path) == ["One."]
    assert index["dropped"] == {"malformed XML": 1}
    (note,) = notes
    assert note.startswith(f"{file.name}, line 9: malformed XML ({reason}")

  @pytest.mark.parametrize("damage", ["cut off", "changed"])
  def test_a_broken_archive_keeps_the_articles_before_the_break(
      self, tmp_path, damage
  ):
    rng = np.random.default_rng(3)
    texts = [rng.bytes(10_000).hex() for _ in range(200)]
    file = write_dump(
        tmp_path / "a.xml.bz2", [page(f"{i}", t) for i, t in enumerate(texts)]
    )
    raw = file.read_bytes()
    half = len(raw) // 2
    file.write_bytes(raw[:half] + (b"" if damage == "cut off" else bytes(half)))
    made_of = sources.wikipedia_dumps([str(file)], held_out=0)
    index, notes = prepared(made_of, tmp_path)
    kept = read("wikipedia", "train", tmp_path)
    assert 20 < len(kept) < 150 and kept == texts[: len(kept)]
    assert index["dropped"] == {"broken archive": 1}
    assert f"a.xml.bz2, after page '{len(kept) - 1}'" in notes[0]

  def test_the_title_decides_what_is_held_out_and_nothing_else(self, tmp_path):
    pages = [page(f"Title {i}", f"Text {i}.") for i in range(400)]
    for name, some in (("all", pages), ("half", pages[:200:-1])):
      (tmp_path / name).mkdir()
      file = write_dump(tmp_path / name / "a.xml", some)
      made_of = sources.wikipedia_dumps([str(file)], held_out=20)
      prepared(made_of, tmp_path / name)
    held = set(read("wikipedia", "validation", tmp_path / "all"))
    assert 10 < len(held) < 30
    train = set(read("wikipedia", "train", tmp_path / "all"))
    assert len(held | train) == 400
    assert set(read("wikipedia", "validation", tmp_path / "half")) < held
    # A hash that changed would mix what was held out into what is trained on.
    keys = [i for i in range(400) if documents.split_of(f"{i}", 100) != "train"]
    assert keys == [225, 299]

  def test_a_dump_that_is_done_is_not_read_again(self, tmp_path):
    pages = [page(f"{i}", f"Text {i}.") for i in range(20)]
    file = write_dump(tmp_path / "a.xml", pages)
    how = dict(held_out=0, job_bytes=40)
    index, _ = prepared(sources.wikipedia_dumps([str(file)], **how), tmp_path)
    assert len(index["splits"]["train"]["shards"]) > 3
    (tmp_path / "wikipedia" / "corpus.json").unlink()
    file.write_bytes(b" " * file.stat().st_size)
    again, notes = prepared(
        sources.wikipedia_dumps([str(file)], **how), tmp_path
    )
    assert again == index and not notes


class TestText:

  def test_long_files_are_cut_between_paragraphs_and_lose_nothing(
      self, tmp_path
  ):
    paragraphs = [f"{i} ü" * (3 + i * 7 % 19) for i in range(200)]
    (tmp_path / "a.txt").write_text("\n\n".join(paragraphs))
    made_of = sources.text(
        "t", [str(tmp_path / "a.txt")], max_bytes=300, held_out=0
    )
    prepared(made_of, tmp_path)
    pieces = read("t", "train", tmp_path)
    assert "\n\n".join(pieces) == "\n\n".join(paragraphs)
    assert 150 < np.mean([len(p.encode()) for p in pieces]) < 301
    assert max(len(p.encode()) for p in pieces) <= 300

  @pytest.mark.parametrize("between", ["\n", " ", ""])
  def test_a_long_paragraph_is_cut_where_it_hurts_least(
      self, tmp_path, between
  ):
    whole = between.join(["wörter日本"] * 500)
    with gzip.open(tmp_path / "a.txt.gz", "wb") as file:
      file.write(whole.encode())
    made_of = sources.text("t", [str(tmp_path)], max_bytes=101, held_out=0)
    _, notes = prepared(made_of, tmp_path)
    pieces = read("t", "train", tmp_path)
    assert between.join(pieces) == whole and not notes
    assert max(len(piece.encode()) for piece in pieces) <= 101
    if between:
      assert all(piece.startswith("wörter") for piece in pieces)

  def test_many_small_files_are_documents_of_few_shards(self, tmp_path):
    for i in range(30):
      (tmp_path / f"{i % 3}").mkdir(exist_ok=True)
      (tmp_path / f"{i % 3}" / f"{i}.txt").write_bytes(b"\r\nA\r\nB %d " % i)
    places = [str(tmp_path / "**" / "*.txt"), str(tmp_path)]
    made_of = sources.text("t", places, job_bytes=100, held_out=0)
    index, _ = prepared(made_of, tmp_path)
    found = read("t", "train", tmp_path)
    assert sorted(found) == sorted(f"A\nB {i}" for i in range(30))
    assert 2 < len(index["splits"]["train"]["shards"]) < 6

  def test_bad_files_are_told_and_the_good_pieces_are_kept(self, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"\n \n")
    (tmp_path / "latin.txt").write_bytes(b"good one\n\n\nb\xe4d\n\ngood two")
    cut = gzip.compress(np.random.default_rng(3).bytes(9999).hex().encode())
    (tmp_path / "cut.txt.gz").write_bytes(cut[:5000])
    made_of = sources.text("t", [str(tmp_path)], max_bytes=11, held_out=0)
    index, notes = prepared(made_of, tmp_path)
    found = read("t", "train", tmp_path)
    assert found[-2:] == ["good one", "good two"] and len(found) > 500
    kinds = {"empty": 1, "invalid UTF-8": 1, "broken archive": 1}
    assert index["dropped"] == kinds
    assert any("latin.txt, line 4: invalid UTF-8" in note for note in notes)
    assert any("empty.txt, line 1: empty" in note for note in notes)
    assert any("cut.txt.gz, line 1: broken archive" in note for note in notes)


class TestJobs:

  @pytest.fixture
  def files(self, tmp_path):
    """Sources of every kind, with something bad in each."""
    rng = np.random.default_rng(3)
    for number in range(4):
      lines = [rng.bytes(50).hex() for _ in range(200)]
      write_c4(tmp_path / "c4", "train", number, [*lines, b"{"])
    pages = [page(f"{i}", f"''{rng.bytes(50).hex()}''") for i in range(200)]
    write_dump(tmp_path / "a.xml.bz2", pages, "<")
    for i in range(20):
      (tmp_path / f"{i}.txt").write_bytes(rng.bytes(1000).hex().encode())
    (tmp_path / "20.txt").write_bytes(b"\xff")
    how = dict(held_out=20, job_bytes=2000)
    return [
        sources.c4([str(tmp_path / "c4")]),
        sources.wikipedia_dumps([str(tmp_path / "a.xml.bz2")], **how),
        sources.text("t", [str(tmp_path / "*.txt")], max_bytes=100, **how),
    ]

  def test_processes_change_nothing_of_what_comes_out(self, files, tmp_path):
    for made_of in files:
      alone = prepared(made_of, tmp_path / "1")
      together = prepared(made_of, tmp_path / "3", processes=3)
      assert alone[0] == together[0]
      assert sorted(alone[1]) == sorted(together[1])
    one = contents(tmp_path / "1")
    assert len(one) > 60 and one == contents(tmp_path / "3")

  def test_only_what_is_not_done_is_done(self, files, tmp_path):
    for made_of in files:
      prepared(made_of, tmp_path / "d")
    whole = contents(tmp_path / "d")
    shards = sorted((tmp_path / "d").rglob("*.array_record"))
    counts = sorted((tmp_path / "d").glob("*/jobs/*.json"))
    kept = {file: file.stat().st_mtime_ns for file in shards + counts}
    gone = [*shards[::5], *counts[1::5]]
    for file in [*gone, *(tmp_path / "d").glob("*/corpus.json")]:
      file.unlink()
    shards[1].with_name(".partial-1-x").write_bytes(b"of a killed process")
    kept = {f: t for f, t in kept.items() if f not in gone}
    for made_of in files:
      prepared(made_of, tmp_path / "d", processes=2)
    assert contents(tmp_path / "d") == whole
    redone = [f for f, t in kept.items() if f.stat().st_mtime_ns != t]
    assert len(redone) < len(kept) / 2  # Those of a job that misses a file.

  def test_what_is_complete_is_left_alone(self, files, tmp_path):
    first = [prepared(made_of, tmp_path / "d")[0] for made_of in files]
    times = {f: f.stat().st_mtime_ns for f in (tmp_path / "d").rglob("*")}
    assert [prepared(made_of, tmp_path / "d")[0] for made_of in files] == first
    assert {f: f.stat().st_mtime_ns for f in times} == times

  def test_other_files_or_settings_are_refused(self, tmp_path):
    (tmp_path / "a.txt").write_text("A")
    made_of = lambda **how: sources.text("t", [str(tmp_path)], **how)
    prepared(made_of(), tmp_path)
    with pytest.raises(DataError, match="held_out 200 instead of 7"):
      prepared(made_of(held_out=7), tmp_path)
    (tmp_path / "b.txt").write_text("B")
    with pytest.raises(DataError, match="other files, without b.txt"):
      prepared(made_of(), tmp_path)
    (tmp_path / "b.txt").rename(tmp_path / "a.txt")
    prepared(made_of(), tmp_path)
    (tmp_path / "a.txt").write_text("AA")
    with pytest.raises(DataError, match="a.txt of 1 bytes instead of"):
      prepared(made_of(), tmp_path)

  def test_progress_counts_jobs_bytes_and_documents(self, files, tmp_path):
    for made_of in files:
      seen = []
      index = corpus.prepare(
          made_of, str(tmp_path), note=lambda _: None, progress=seen.append
      )
      first, last = seen[0], seen[-1]
      assert (first.jobs, first.bytes, first.documents) == (0, 0, 0)
      assert last.jobs == len(seen) - 1 == (last.total_jobs or last.jobs)
      assert last.bytes == last.total_bytes
      splits = index["splits"].values()
      assert last.documents == sum(s["documents"] for s in splits)
      assert last.new_documents == last.documents


class TestOpen:

  def test_documents_are_read_by_index_and_go_to_other_processes(
      self, tmp_path
  ):
    for number in (0, 1):
      lines = [f"{number} {i}" for i in range(100)]
      write_c4(tmp_path, "train", number, lines)
    write_c4(tmp_path, "validation", 0, ["a"])
    prepared(sources.c4([str(tmp_path)]), tmp_path)
    found = corpus.open_documents("c4", "train", str(tmp_path))
    assert len(found) == 200 and found[107] == b"1 7"
    assert pickle.loads(pickle.dumps(found))[93] == b"0 93"

  @pytest.mark.parametrize(("count", "held_out"), [(2, 1), (5, 1), (45, 3)])
  def test_where_nothing_was_held_out_one_in_twenty_is(
      self, tmp_path, count, held_out
  ):
    (tmp_path / "files").mkdir()
    for i in range(count):
      (tmp_path / "files" / f"{i:02}.txt").write_text(f"text {i}")
    source = sources.text("own", [str(tmp_path / "files")], held_out=0)
    corpus.prepare(source, str(tmp_path), processes=1)
    notes = []
    train, test = (
        corpus.open_documents("own", split, str(tmp_path), notes.append)
        for split in ("train", "validation")
    )
    every = [*(train[i] for i in range(len(train))), *map(bytes, test)]
    assert sorted(every) == sorted(b"text %d" % i for i in range(count))
    assert len(test) == held_out
    assert notes == [
        "own: no document was held out when it was prepared;"
        f" {held_out} of {count} are held out now"
    ]

  def test_a_corpus_of_nothing_is_refused(self, tmp_path):
    (tmp_path / "a.txt").write_bytes("größe".encode("utf-16"))
    (tmp_path / "b.txt").write_bytes(b" \n")
    made_of = sources.text("mine", [str(tmp_path / "*.txt")])
    message = "expected texts in UTF-8, .* of 2 files .1 invalid UTF-8, 1 empty"
    with pytest.raises(DataError, match=message):
      prepared(made_of, tmp_path / "data")
    assert not (tmp_path / "data" / "mine" / "corpus.json").exists()

  def test_one_document_is_not_enough(self, tmp_path):
    (tmp_path / "one.txt").write_text("text")
    source = sources.text("own", [str(tmp_path / "one.txt")])
    corpus.prepare(source, str(tmp_path), processes=1)
    with pytest.raises(DataError, match="has 1 document: one for training"):
      corpus.open_documents("own", "train", str(tmp_path))

  @pytest.mark.parametrize(
      ("name", "command"),
      [
          ("c4", "scripts.prepare_data mlm --c4=FILES --data_dir="),
          ("my", "scripts.prepare_data mlm --text=my=FILES --data_dir="),
          ("c4/en", "tfds build c4/en --file_format=array_record --data_dir="),
      ],
  )
  def test_a_missing_corpus_says_how_to_prepare_it(
      self, tmp_path, name, command
  ):
    with pytest.raises(FileNotFoundError, match=command + str(tmp_path)):
      corpus.open_documents(name, "train", str(tmp_path))

  def test_one_that_is_not_complete_or_has_no_such_split_says_so(
      self, tmp_path
  ):
    prepared(sources.c4([str(write_c4(tmp_path, "train", 0, "a"))]), tmp_path)
    with pytest.raises(DataError, match="train, not 'test'"):
      corpus.open_documents("c4", "test", str(tmp_path))
    index = tmp_path / "c4" / "corpus.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "format": 2}))
    with pytest.raises(DataError, match="format 2, not 1"):
      corpus.open_documents("c4", "train", str(tmp_path))
    index.unlink()
    with pytest.raises(FileNotFoundError, match="'c4' that is complete in"):
      corpus.open_documents("c4", "train", str(tmp_path))

  def test_a_text_data_set_of_tfds_is_read_as_well(self, tmp_path):
    builder = Texts(data_dir=tmp_path, config="en", file_format="array_record")
    builder.download_and_prepare()
    found = corpus.open_documents("texts/en", "train", str(tmp_path))
    texts = sorted(pickle.loads(pickle.dumps(found))[i] for i in range(3))
    assert texts == [f"ü {i}".encode() for i in range(3)]


class Texts(tfds.core.GeneratorBasedBuilder):
  """A data set with texts."""

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="en")]
  pkg_dir_path = None

  def _info(self):
    features = {"text": tfds.features.Text(), "url": tfds.features.Text()}
    return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(3):
      yield i, {"text": f"ü {i}", "url": "u"}
