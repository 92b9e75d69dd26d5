"""From files to files with a small model of every kind."""

import functools
import importlib
import itertools
import json

import cv2
import jax
import numpy as np
import pytest

from experiments import flow
from experiments import imagenet
from experiments import kinetics
from experiments import mlm
from experiments.data.clips import video as video_lib
from experiments.data.flow import colors as flow_colors
from experiments.data.flow import files as flow_files
from experiments.data.images import image as image_lib
from experiments.data.text import tokenizers as text_lib
from experiments.engine import build
from experiments.engine import weights
from experiments.engine.errors import UserError
from experiments.inference import LoadedModel
from experiments.inference import masks
from scripts import predict
from tests import readers
from tests.conftest import Command

BYTES = text_lib.utf8()

# The small configs where their sizes do not suit files.
CHANGES = {
    "mlm": {},
    "flow": {"frame_size": (24, 32)},
    "imagenet": {"image_size": (16, 16)},
    "kinetics": {"video": (4, 12, 12), "samples_per_frame": 320},
}


@functools.cache
def made(task: str) -> LoadedModel:
  """A model; all its parameters are random, for some would start at zero."""
  variant = "tiny"
  config = importlib.import_module(f"configs.{task}").get_config(variant)
  config.update(CHANGES[task])
  network = build.build_network(config)
  rng = np.random.default_rng(0)
  model = jax.tree.map(
      lambda x: rng.normal(scale=0.3, size=x.shape).astype(x.dtype),
      network.like,
  )
  return LoadedModel(config, network, model, [])


@pytest.fixture
def say(monkeypatch, capsys):
  """Runs a command line in this process; returns what it prints."""

  def run(name, *argv):
    args = predict.parser().parse_args(
        [name, "--weights=given", *map(str, argv)]
    )
    predict.run(args)
    return capsys.readouterr().out

  monkeypatch.setattr(predict, "load", lambda args: made(args.of_task))
  return run


def picture(height, width, seed=0):
  """Something smooth, uint8."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, [5, 5, 3], np.uint8)
  return cv2.resize(coarse, (width, height))


def save(path, image):
  cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
  return path


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
  """A video of a third of a second, with a tone."""
  path = tmp_path_factory.mktemp("movie") / "a.mp4"
  frames = np.stack([np.roll(picture(36, 48), i, axis=1) for i in range(9)])
  time = np.arange(9 * 1920)[:, None] / 48000
  video_lib.write(path, frames, audio=np.sin(2000 * time).astype(np.float32))
  return path


class TestFillMask:

  def test_masks_are_bytes_and_neighbours_are_one_span(self):
    ids, spans = masks.masked("ä[MASK][MASK:2]b[MASK]", [], BYTES)
    assert ids.dtype == np.int32
    mask = text_lib.MASK
    expected = [*text_lib.encode("ä"), mask, mask, mask, ord("b") + 6, mask]
    assert ids.tolist() == expected
    assert spans == [slice(2, 5), slice(6, 7)]

  @pytest.mark.parametrize(
      ("text", "parts", "masked"),
      [
          ("an incomplete text", ["in", "incomplete"], [(3, 13)]),
          ("abcd", ["ab", "bc"], [(0, 3)]),
          ("aaab a", ["aa"], [(0, 3)]),
          ("x[MASK:2]é y", ["é", "y"], [(1, 5), (6, 7)]),
          ("ab ab", ["b", "ab"], [(0, 2), (3, 5)]),
      ],
  )
  def test_parts_that_overlap_are_all_masked(self, text, parts, masked):
    for masks_of in (parts, parts[::-1]):
      ids, spans = masks.masked(text, masks_of, BYTES)
      assert [(span.start, span.stop) for span in spans] == masked
      where = np.flatnonzero(ids == text_lib.MASK)
      assert where.tolist() == [i for a, b in masked for i in range(a, b)]

  def test_a_part_of_the_text_is_masked_byte_by_token_wherever_it_is(self):
    ids, spans = masks.masked("a (ß) c (ß)", [" (ß)"], BYTES)
    expected, _ = masks.masked("a[MASK:5] c[MASK:5]", [], BYTES)
    np.testing.assert_array_equal(ids, expected)
    assert spans == [slice(1, 6), slice(8, 13)]

  @pytest.mark.parametrize(
      ("text", "masks", "message"),
      [
          ("no mask", [], r"nothing is masked: write \[MASK\]"),
          ("[MASK:0]", [], "nothing is masked"),
          ("abc[MASK]", ["d"], "'d' cannot be masked: not in the text"),
          ("[MASK:30]", [], "the text has 30 bytes, the model reads 29"),
          ("ü" * 14 + "[MASK:2]", [], "the text has 30 bytes"),
      ],
  )
  def test_what_cannot_be_filled_is_refused(self, text, masks, message):
    with pytest.raises(UserError, match=message):
      mlm.fill_mask(made("mlm"), text, masks)

  @pytest.mark.parametrize("k", [1, 5, 100])
  def test_the_best_sequences_are_those_of_a_search_through_all(self, k):
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.ones(4), size=3))
    every = [
        (np.exp(sum(log_probs[range(3), ids])), ids)
        for ids in itertools.product(range(4), repeat=3)
    ]
    expected = sorted(every, reverse=True)[:k]
    best = masks.k_best(log_probs, k, BYTES)
    assert [x.ids for x in best] == [ids for _, ids in expected]
    np.testing.assert_allclose(
        [x.probability for x in best], [p for p, _ in expected]
    )

  def test_guesses_are_the_models_at_the_masked_bytes(self):
    text = "grün[MASK:3] und[MASK]"
    filled = mlm.fill_mask(made("mlm"), text)
    ids, (first, second) = masks.masked(text, [], BYTES)
    tokens, mask = text_lib.padded(ids, 29)
    out = made("mlm").outputs({"tokens": tokens[None], "mask": mask[None]})
    probs = np.asarray(jax.nn.softmax(out["logits"][0]))
    assert [span.start for span in filled.spans] == [5, 12]
    assert [len(span.by_token) for span in filled.spans] == [3, 1]
    for i, guesses in enumerate(filled.spans[0].by_token, 5):
      order = np.argsort(-probs[i])[:5]
      assert [guess.ids for guess in guesses] == [(x,) for x in order]
      np.testing.assert_allclose(
          [guess.probability for guess in guesses], probs[i, order], rtol=1e-4
      )
    best = filled.spans[0].strings[0]
    np.testing.assert_allclose(
        best.probability, probs[first].max(-1).prod(), rtol=1e-4
    )
    ids[first], ids[second] = best.ids, probs[second].argmax(-1)
    assert filled.text == text_lib.decode(ids)
    assert filled.text.startswith("grün")

  def test_every_token_that_has_some_of_a_part_is_masked(self, tmp_path):
    file = readers.sentencepiece_model(tmp_path)
    tokens = text_lib.sentencepiece(str(file))
    text = "abcde fgh café abc"
    whole, read = tokens.encode(text.encode()), b" " + text.encode()
    ends = np.cumsum(tokens.num_bytes[whole])
    for part in ("c", "é", "de f", "abc"):
      size = len(part.encode())
      its = {
          byte
          for at in range(len(read))
          if read[at : at + size] == part.encode()
          for byte in range(at, at + size)
      }
      begins = ends - tokens.num_bytes[whole]
      has_some = np.array(
          [
              bool(its & {*range(a, b)})
              for a, b in zip(begins, ends, strict=True)
          ]
      )
      ids, spans = masks.masked(text, [part], tokens)
      np.testing.assert_array_equal(ids == text_lib.MASK, has_some)
      np.testing.assert_array_equal(ids[~has_some], whole[~has_some])
      assert sum(span.stop - span.start for span in spans) == has_some.sum() > 0

  def test_beside_a_mark_tokens_are_those_of_the_whole_text(self, tmp_path):
    file = readers.sentencepiece_model(tmp_path)
    tokens = text_lib.sentencepiece(str(file))
    mask = text_lib.MASK
    for text, before, after in (
        ("abcde[MASK:2] abc", "abcde", " abc"),
        ("abcde [MASK:2] abc", "abcde", " abc"),
        ("[MASK:2] abc", "", " abc"),
        ("abcde[MASK:2]", "abcde", ""),
    ):
      ids, _ = masks.masked(text, [], tokens)
      expected = [
          *tokens.encode(before.encode()),
          *[mask, mask],
          *tokens.encode(after.encode()),
      ]
      assert ids.tolist() == expected
    (_, comma), _ = masks.masked("[MASK],", [], tokens)
    assert tokens.texts[comma] == b","  # Without a space.

  def test_the_character_that_stands_for_a_mark_is_refused(self):
    with pytest.raises(UserError, match="cannot have the character"):
      masks.masked("a\ue000[MASK]", [], BYTES)

  def test_what_is_masked_is_not_seen(self):
    by_part = mlm.fill_mask(made("mlm"), "one two", [" two"])
    by_mark = mlm.fill_mask(made("mlm"), "one[MASK:4]")
    assert by_part == by_mark

  def test_every_id_can_be_told(self):
    euro = text_lib.encode("€").tolist()
    newline = text_lib.encode("a\n").tolist()
    assert masks.shown([*euro, *newline], BYTES) == r"€a\n"
    assert masks.shown([*euro[:2], 0, *newline], BYTES) == r"\xe2\x82[PAD]a\n"

  def test_texts_are_printed_without_masks(self, say):
    out = say("fill-mask", "one[MASK:2] a", "two a", "--mask= a")
    assert out.startswith("one")
    assert "  bytes 3 to 6:\n" in out and "  bytes 3 to 4:\n" in out
    assert "\n    byte 4: '" in out

  def test_candidates_of_one_byte_are_printed_once(self, say):
    out = say("fill-mask", "one[MASK] a")
    assert "  byte 3:\n" in out
    assert out.count("byte") == 1


class TestFlow:

  def test_an_image_of_one_tile_is_what_the_model_says(self):
    first, second = picture(24, 32), picture(24, 32, seed=1)
    frames = np.stack([first, second])[None] / 127.5 - 1.0
    expected = made("flow").outputs({"frames": frames.astype(np.float32)})[
        "flow"
    ]
    found = flow.flow_between(made("flow"), first, second)
    assert found.dtype == np.float32 and found.std() > 1e-3
    np.testing.assert_allclose(found, expected[0], rtol=1e-4, atol=1e-5)

  def test_a_disk_that_is_full_names_what_was_written(self, say, tmp_path):
    save(tmp_path / "a.png", picture(24, 32))
    (tmp_path / "out.flo").symlink_to("/dev/full")
    inputs = [tmp_path / "a.png"] * 2
    with pytest.raises(UserError, match="out.flo: No space left on device"):
      say("flow", *inputs, f"--output={tmp_path / 'out.flo'}")

  def test_what_one_tile_alone_sees_is_that_tiles(self):
    between = functools.partial(flow.flow_between, made("flow"))
    first, second = picture(24, 50), picture(24, 50, seed=1)
    whole = between(first, second)
    assert whole.shape == (24, 50, 2) and np.isfinite(whole).all()
    left = between(first[:, :32], second[:, :32])
    right = between(first[:, 18:], second[:, 18:])
    np.testing.assert_allclose(
        whole[:, :12], left[:, :12], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        whole[:, 44:], right[:, 26:], rtol=1e-4, atol=1e-5
    )

  def test_flow_and_its_picture_are_written(self, say, tmp_path):
    pair = [picture(25, 40, seed) for seed in (0, 1)]
    files = [save(tmp_path / f"{i}.png", x) for i, x in enumerate(pair)]
    flo, png = tmp_path / "new" / "a.flo", tmp_path / "a.png"
    say("flow", *files, f"--output={flo}", f"--output={png}")
    expected = flow.flow_between(made("flow"), *pair)
    np.testing.assert_allclose(flow_files.read_flo(flo)[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(
        image_lib.read(png), flow_colors.colors(expected)
    )

  def test_a_video_becomes_its_flow_beside_it(self, say, movie, tmp_path):
    file = tmp_path / "flow.mp4"
    out = say("flow", movie, f"--output={file}", "--side_by_side")
    assert f"{file}: the longest flow is" in out
    frames = video_lib.read_frames(file)
    assert frames.shape == (8, 36, 96, 3)
    seen = video_lib.read_frames(movie)[:8].astype(float)
    assert np.abs(frames[:, :, :48] - seen).mean() < 8.0

  @pytest.mark.parametrize(
      ("names", "outputs", "message"),
      [
          (["a", "b"], ["x.flo"], r"a.png and .*b.png: one is 24 x 32 .*30 x"),
          (["a", "a"], [], "--output=FILE.flo or .png is missing"),
          (["a", "a"], ["x.mp4"], "x.mp4: the suffix must be .flo or .png"),
          (["a", "a", "a"], ["x.flo"], "two images or one video"),
          (["a"], ["x.mp4"], "a.png has one frame; flow needs two"),
          (["a", "no"], ["x.flo"], "No such file.*no.png"),
          (["a", "text"], ["x.flo"], "text.png holds no image"),
          (["text"], ["x.mp4"], "text.png: .*Invalid data"),
          (["no"], ["x.mp4"], "No such file.*no.png"),
      ],
  )
  def test_files_that_do_not_fit_are_named(
      self, say, tmp_path, names, outputs, message
  ):
    save(tmp_path / "a.png", picture(24, 32))
    save(tmp_path / "b.png", picture(30, 32))
    (tmp_path / "text.png").write_text("no picture")
    files = [tmp_path / f"{name}.png" for name in names]
    outputs = [f"--output={tmp_path / name}" for name in outputs]
    with pytest.raises(UserError, match=message):
      say("flow", *files, *outputs)


class TestClassify:

  def test_the_likeliest_classes_are_printed(self, say, tmp_path):
    file = save(tmp_path / "a.png", picture(30, 40))
    (batch,) = imagenet.read_images(made("imagenet").config, [str(file)])
    logits = made("imagenet").outputs(batch)["logits"][0]
    probs = np.asarray(jax.nn.softmax(logits))
    printed = [line.split() for line in say("classify", file).splitlines()[1:]]
    assert [int(line[-1]) for line in printed] == [*np.argsort(-probs)[:5]]
    np.testing.assert_allclose(
        [float(line[0]) for line in printed],
        100 * np.sort(probs)[:-6:-1],
        rtol=5e-3,
    )

  @pytest.mark.parametrize("form", ["lines", "list", "by number", "id2label"])
  def test_classes_have_the_names_of_a_file(self, say, tmp_path, form):
    file = save(tmp_path / "a.png", picture(30, 40))
    names = [f"name {i}" for i in range(11)]
    labels = tmp_path / "names.json"
    if form == "lines":
      labels = tmp_path / "names.txt"
      labels.write_text("\n".join(names) + "\n")
    else:
      forms = {
          "list": names,
          "by number": {i: [f"n{i}", x] for i, x in enumerate(names)},
          "id2label": {"id2label": dict(enumerate(names)), "more": 1},
      }
      labels.write_text(json.dumps(forms[form]))
    named = say("classify", f"--labels={labels}", file)
    numbered = say("classify", file)
    assert named == numbered.replace("class ", "name ") != numbered
    assert say("classify", file, file) == 2 * numbered

  @pytest.mark.parametrize(
      ("content", "message"),
      [
          ('["a"]', "names.json: 1 names for the model's 11 classes"),
          ('{"a": "b"}', "names.json: 0"),
          ("{", "names.json: Expecting property name"),
      ],
  )
  def test_names_that_do_not_fit_are_refused(
      self, say, tmp_path, content, message
  ):
    file = save(tmp_path / "a.png", picture(30, 40))
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(UserError, match=message):
      say("classify", file, f"--labels={tmp_path / 'names.json'}")

  def test_what_is_no_image_is_named(self, say, tmp_path):
    file = tmp_path / "a.png"
    with pytest.raises(UserError, match="No such file.*a.png"):
      say("classify", file)
    file.write_text("no picture")
    with pytest.raises(UserError, match="a.png holds no image"):
      say("classify", file)


class TestAutoencode:

  def test_chunks_make_no_difference(self, movie):
    chunked = made("kinetics")
    assert chunked.config.num_chunks == 3
    config = chunked.config.copy_and_resolve_references()
    config.num_chunks = 1
    whole = chunked._replace(config=config, network=build.build_network(config))
    (clip,) = kinetics.read_clips(config, movie)
    one, three = whole.outputs(clip), chunked.outputs(clip)
    for name in ("video", "audio"):
      assert one[name].shape == clip[name].shape
      assert one[name].std() > 1e-3
      np.testing.assert_allclose(one[name], three[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one["label"], three["label"], rtol=1e-4)

  def test_what_comes_out_is_in_range(self, movie):
    (clip,) = kinetics.read_clips(made("kinetics").config, movie)
    raw = made("kinetics").outputs(clip)
    shown = kinetics.in_range(raw)
    np.testing.assert_array_equal(
        shown["video"], np.clip(raw["video"], 0.0, 1.0)
    )
    assert raw["video"].min() < 0.0 == shown["video"].min()
    assert np.abs(shown["audio"]).max() <= 1.0

  @pytest.mark.parametrize("silent", [False, True])
  def test_clips_become_one_video_with_sound(
      self, say, movie, tmp_path, silent
  ):
    if silent:
      frames = video_lib.read_frames(movie)
      movie = tmp_path / "silent.mp4"
      video_lib.write(movie, frames)
    file = tmp_path / "new.mp4"
    out = say("autoencode", movie, f"--output={file}", "--clips=2")
    assert "from 0.00 s" in out and "from 0.16 s" in out
    assert out.count("class ") == 10
    frames = video_lib.read_frames(file)
    assert frames.shape == (8, 12, 12, 3)
    clips = [*kinetics.read_clips(made("kinetics").config, movie, 2)]
    assert silent == (not np.any(clips[0]["audio"]))
    made_of = [kinetics.in_range(made("kinetics").outputs(x)) for x in clips]
    expected = np.concatenate([x["video"][0] for x in made_of])
    assert np.abs(frames / 255.0 - expected).mean() < 0.1
    expected = np.concatenate([x["audio"][0] for x in made_of])
    heard = video_lib.read_audio(file, 8 * 320, rate=8000)
    assert np.corrcoef(heard[:, 0], expected[:, 0])[0, 1] > 0.5

  def test_the_input_is_beside_it(self, say, movie, tmp_path):
    file = tmp_path / "new.mp4"
    say("autoencode", movie, f"--output={file}", "--side_by_side")
    frames = video_lib.read_frames(file)
    assert frames.shape == (4, 12, 24, 3)
    (clip,) = kinetics.read_clips(made("kinetics").config, movie)
    assert np.abs(frames[:, :, :12] / 255.0 - clip["video"][0]).mean() < 0.1

  @pytest.mark.parametrize(
      ("argv", "message"),
      [
          (
              ["--output=x.mp4", "--clips=3"],
              "a.mp4 from 0.32 s on: .* has 1 frames",
          ),
          (["--output={}/x.mp4"], "a.mp4/x.mp4: .*a.mp4'"),
          (["--output={}"], "a.mp4 is an input: write to another file"),
          (["--output=x.avi"], "x.avi: the suffix must be .mp4"),
          (["--output=x.mp4", "--clips=0"], "--clips=0: at least 1"),
      ],
  )
  def test_what_cannot_be_done_is_refused(self, say, movie, argv, message):
    with pytest.raises(UserError, match=message):
      say("autoencode", movie, *(arg.format(movie) for arg in argv))


class TestCommand:

  def test_a_file_of_ours_needs_no_config(self, in_fork, tmp_path):
    file = tmp_path / "model.npz"
    weights.save(file, made("mlm").config, made("mlm").model)
    text = "one[MASK:4]"
    code, out, err = in_fork(
        "scripts.predict", "fill-mask", f"--weights={file}", text
    )
    assert code == 0, err
    filled = mlm.fill_mask(made("mlm"), text)
    assert out.splitlines()[0] == filled.text
    assert not err

  def test_the_config_of_random_weights_can_be_changed(self, tmp_path):
    files = [save(tmp_path / f"{i}.png", picture(24, 40)) for i in range(2)]
    code, out, err = Command(
        "scripts.predict",
        "flow",
        "--weights=random",
        "--config=configs/flow.py:tiny",
        "--config.frame_size=(24, 32)",
        f"--output={tmp_path / 'a.flo'}",
        *map(str, files),
    ).wait()
    assert code == 0, err
    assert err == "note: random weights: what comes out means nothing\n"
    assert "the longest flow is 0.0 pixels" in out  # It starts at zero.
    assert not flow_files.read_flo(tmp_path / "a.flo")[0].any()

  @pytest.mark.parametrize(
      ("argv", "message"),
      [
          (["fill-mask", "a[MASK]"], "arguments are required: --weights"),
          (["fill-mask", "--weights=no.npz", "a[MASK]"], "no.npz: there is no"),
          (
              ["classify", "--weights=random", "--output=x", "README.md"],
              "unrecognized arguments: --output=x",
          ),
          (["paint", "--weights=random"], "invalid choice: 'paint'"),
          (
              [
                  "fill-mask",
                  "--weights=a.npz",
                  "--config.model.decoder.num_heads=2",
                  "a[MASK]",
              ],
              "a.npz has its own config; --config.model.decoder.num_heads=2",
          ),
          (
              [
                  "fill-mask",
                  "--weights=random",
                  "--config=configs/flow.py:tiny",
                  "a[MASK]",
              ],
              "random: the weights are of task 'flow', not 'mlm'",
          ),
      ],
  )
  def test_a_mistake_is_one_line(self, in_fork, argv, message):
    code, out, err = in_fork("scripts.predict", *argv)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1 and not out
