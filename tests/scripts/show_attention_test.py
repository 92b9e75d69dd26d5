"""Attention maps: the numbers, the pictures of them, and the command."""

import html.parser
import importlib
import io

import jax
from matplotlib import colors
import numpy as np
from PIL import Image
import pytest

from experiments.data.clips import video
from experiments.data.text import tokenizers
from experiments.engine import weights
from experiments.engine.errors import UserError
from experiments.inference import attention_grids
from experiments.inference import attention_maps as maps_lib
from experiments.inference import attention_texts
from experiments.inference.attention_colors import Look
from experiments.inference.attention_colors import MISSING
from experiments.inference.attention_queries import Options
from perceiver import record_attention
from scripts import show_attention
from tests.conftest import Command

WEIGHTS = Look()
SCORES = Look(is_scores=True)
MODELS = {}


def model(task):
  """The mini model of a task, made once."""
  if task not in MODELS:
    variant = "tiny"
    config = importlib.import_module(f"configs.{task}").get_config(variant)
    MODELS[task] = weights.random(config)
  return MODELS[task]


def subject_of(task, *inputs):
  read = model(task)
  module = importlib.import_module(f"experiments.{task}")
  return next(module.attention_subjects(read.config, inputs))


def maps_of(task, subject, **options):
  options = Options(**options)
  return maps_lib.maps_of(model(task), subject, options)


def all_weights(task, subject, scores=False):
  """What `record_attention` collects of one example."""
  read = model(task)
  batch = {name: np.asarray(x)[None] for name, x in subject.batch.items()}

  @jax.jit
  def record(model, batch):
    with record_attention(scores=scores) as recorded:
      read.network.net.apply(*model, jax.random.key(0), batch, False)
    return recorded

  return jax.device_get(record(read.model, batch))


@pytest.fixture
def picture(tmp_path):
  """A file with an image."""
  pixels = np.random.default_rng(0).integers(0, 256, [40, 60, 3], np.uint8)
  Image.fromarray(pixels).save(tmp_path / "picture.png")
  return str(tmp_path / "picture.png")


@pytest.fixture
def clip(tmp_path):
  """A file with a video and its sound."""
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, [10, 32, 48, 3], np.uint8)
  audio = 0.1 * rng.normal(size=[10 * 1920, 1]).astype(np.float32)
  video.write(tmp_path / "clip.mp4", frames, audio=audio)
  return str(tmp_path / "clip.mp4")


class Spans(html.parser.HTMLParser):
  """The characters of a page's texts, and the style and class of each."""

  def __init__(self, page):
    super().__init__()
    self.found, self.tags = [], []
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    tag, attrs = self.tags[-1] if self.tags else ("", {})
    if tag == "span" and "title" in attrs:
      self.found.append((data, attrs["style"], attrs.get("class")))
      self.tags.append(("", {}))


def test_weights_sum_to_one_and_equal_what_is_recorded(picture):
  subject = subject_of("imagenet", picture)
  recorded = all_weights("imagenet", subject)
  shown = maps_of("imagenet", subject, latents="all")
  np.testing.assert_allclose(shown.values.sum(-1), 1.0, atol=1e-5)
  of_encoder = recorded["encoder/cross_attention/attention"][0]
  np.testing.assert_allclose(shown.values, of_encoder, rtol=1e-5)

  processor = recorded["processor/layers/self_attention/attention"]
  shown = maps_of(
      "imagenet", subject, module="processor", block=2, layer=1, heads="3,1"
  )
  expected = processor[2, 1, 0, [3, 1]]
  np.testing.assert_allclose(shown.values, expected, rtol=1e-5)
  assert shown.heads == ["head 3", "head 1"]
  shown = maps_of(
      "imagenet", subject, module="processor", heads="mean", latents="mean"
  )
  expected = processor[0, 0, 0].mean((0, 1))
  np.testing.assert_allclose(shown.values[0, 0], expected, rtol=1e-5)

  shown = maps_of("imagenet", subject, module="decoder")
  of_decoder = recorded["decoder/cross_attention/attention"][0]
  np.testing.assert_allclose(shown.values, of_decoder, rtol=1e-5)
  np.testing.assert_allclose(
      shown.composed[0], of_decoder[0] @ of_encoder[0], rtol=1e-4
  )


@pytest.mark.parametrize("module", ["encoder", "processor"])
def test_the_softmax_of_scores_is_the_weights(module):
  subject = subject_of("mlm", "a [MASK] text")
  options = {"module": module, "latents": "all"}
  scores = maps_of("mlm", subject, scores=True, **options).values
  shown = maps_of("mlm", subject, **options).values
  np.testing.assert_allclose(jax.nn.softmax(scores), shown, atol=1e-6)
  if module == "encoder":
    is_real = subject.batch["mask"]
    assert np.isfinite(scores[..., is_real]).all()
    assert np.isneginf(scores[..., ~is_real]).all()


def test_outputs_of_a_video_are_named_by_their_places(clip):
  subject = subject_of("kinetics", clip)
  outputs = "label,video:1x2x3,audio:5,video:0x11x10"
  maps = maps_of("kinetics", subject, module="decoder", outputs=outputs)
  assert maps.queries == [
      "output audio 5",
      "output video 1x2x3",
      "output video 0x11x10",
      "output label",
  ]
  # Alone it is no other.
  alone = maps_of("kinetics", subject, module="decoder", outputs="video:1x2x3")
  np.testing.assert_allclose(alone.values[:, 0], maps.values[:, 1], rtol=1e-5)
  np.testing.assert_allclose(maps.composed.sum(-1), 1.0, atol=1e-5)
  parts = attention_grids.split(maps.composed[0], subject.inputs)
  shapes = {name: values.shape for name, values in parts.items()}
  assert shapes == {"audio": (4, 12), "video": (4, 2, 3, 3), "label": (4,)}


def test_what_reads_one_pixel_lights_that_pixel_alone():
  maps = np.zeros([2, 1, 5, 7])
  maps[0, 0, 3, 2] = 1.0
  maps[1, 0, 0, 6] = 0.25
  frames = np.zeros([1, 10, 14, 3])
  figure = attention_grids.grid_figure("", frames, maps, ["a", "b"], WEIGHTS)
  _, *panels = [ax.images[0] for ax in figure.axes if ax.images]
  bright, dark = WEIGHTS.colormap([1.0, 0.0])[:, :3]
  for panel, (y, x) in zip(panels[:2], [(3, 2), (0, 6)], strict=True):
    shown = np.asarray(panel.get_array())
    assert shown.shape == (5, 7, 3)
    np.testing.assert_allclose(shown[y, x], bright)
    shown = np.delete(shown.reshape(-1, 3), 7 * y + x, axis=0)
    np.testing.assert_allclose(shown, np.broadcast_to(dark, (34, 3)))


def test_no_element_is_lost_between_pixels():
  maps = np.zeros([1, 1, 150, 301])
  maps[0, 0, 77, 123] = 1.0
  frames = np.zeros([1, 150, 301, 3])
  figure = attention_grids.grid_figure("", frames, maps, ["a"], WEIGHTS)
  file = io.BytesIO()
  figure.savefig(file)
  drawn = np.asarray(Image.open(file).convert("RGB")).astype(int)
  bright = 255 * np.array(WEIGHTS.colormap(1.0)[:3])
  # The colour bar has a few pixels of it too, all at its right end.
  left = drawn[:, : drawn.shape[1] * 3 // 4]
  assert (np.abs(left - bright).max(-1) <= 1).any()


def test_frames_are_tiled_row_by_row():
  frames = np.arange(6)[:, None, None, None] * np.ones([6, 2, 3, 3]) / 10
  picture = attention_grids.tiled(frames, 4)
  assert picture.shape == (2 * 2 + 1, 4 * 3 + 3, 3)
  for i in range(6):
    y, x = 3 * (i // 4), 4 * (i % 4)
    np.testing.assert_array_equal(picture[y : y + 2, x : x + 3], frames[i])
  np.testing.assert_array_equal(picture[2], 1.0)


def test_characters_stand_for_all_of_their_bytes():
  ids = np.concatenate(
      [tokenizers.encode("aï🦊\n"), [tokenizers.MASK, 6 + 0xC3, 6 + 0x62]]
  )
  parts = attention_texts.pieces(ids)
  assert [part.shown for part in parts] == [
      *("a", "ï", "🦊", "↵", "[MASK]", "\N{REPLACEMENT CHARACTER}", "b")
  ]
  assert [part.stop for part in parts] == [1, 3, 7, 8, 9, 10, 11]
  values = np.arange(11.0)[None]
  read = attention_texts.of_pieces(values, parts, WEIGHTS)
  np.testing.assert_array_equal(read, [[0, 3, 18, 7, 8, 9, 10]])
  most = attention_texts.of_pieces(values, parts, SCORES)
  np.testing.assert_array_equal(most, [[0, 2, 6, 7, 8, 9, 10]])


def test_what_reads_one_byte_colours_that_byte_alone():
  ids = tokenizers.encode('<b>"&x')
  maps = np.zeros([1, len(ids)])
  maps[0, 4] = 0.5
  page = attention_texts.text_html(
      "<i>", ids, {"head <0>": maps}, ["latent & 0"], WEIGHTS, marks=[5]
  )
  for escaped in ("&lt;i&gt;", "head &lt;0&gt;", "latent &amp; 0"):
    assert escaped in page
  assert "<b>" not in page and "<i>" not in page
  spans = Spans(page).found
  assert "".join(shown for shown, _, _ in spans) == '<b>"&x'
  full, none = map(colors.to_hex, Look(is_light=True).colormap([1.0, 0.0]))
  for i, (_, style, mark) in enumerate(spans):
    assert style.startswith(f"background:{full if i == 4 else none};")
    assert mark == ("mark" if i == 5 else None)

  figure = attention_texts.text_figure("", ids, maps, ["latent"], WEIGHTS)
  faces = figure.axes[0].collections[0].get_facecolors()
  is_full = [colors.to_hex(face) == full for face in faces]
  assert is_full == [i == 4 for i in range(6)]


def test_what_is_masked_has_no_colour():
  ids = tokenizers.encode("abc")
  maps = np.array([[0.5, -np.inf, -1.0]])
  page = attention_texts.text_html("", ids, {"": maps}, ["latent"], SCORES)
  styles = [style for _, style, _ in Spans(page).found]
  assert [bool(style) for style in styles] == [True, False, True]
  figure = attention_texts.text_figure("", ids, maps, ["latent"], SCORES)
  assert len(figure.axes[0].collections[0].get_paths()) == 2
  colored = SCORES.colored(maps, (-1.0, 0.5))[0]
  assert colors.to_hex(colored[1]) == MISSING


def test_padding_is_not_shown(tmp_path):
  options = Options(latents="0,3", heads="1", npz=True)
  text_given = "a <short> text"
  show_attention.show(model("mlm"), [text_given], tmp_path, options, "random")
  (page,) = tmp_path.glob("*.html")
  spans = Spans(page.read_text("utf-8")).found
  assert "".join(shown for shown, _, _ in spans) == 2 * text_given
  assert "<short>" not in page.read_text("utf-8")
  (picture,) = tmp_path.glob("*.png")
  assert Image.open(picture).width > 300
  (file,) = tmp_path.glob("*.npz")
  arrays = np.load(file)
  recorded = all_weights("mlm", subject_of("mlm", text_given))
  path = "encoder/cross_attention/attention"
  np.testing.assert_allclose(
      arrays[path], recorded[path][0, 1:2, [0, 3]].swapaxes(0, 1), rtol=1e-5
  )
  assert arrays["queries"].tolist() == ["latent 0", "latent 3"]


def test_outputs_at_padding_are_not_among_those_of_a_text():
  subject = subject_of("mlm", "a text")
  maps = maps_of("mlm", subject, module="decoder", outputs="mean")
  np.testing.assert_allclose(maps.values.sum(-1), 1.0, atol=1e-5)
  subject = subject_of("mlm", "[MASK] text[MASK]")
  maps = maps_of("mlm", subject, module="decoder")
  assert maps.queries == ["output text 0 ([MASK])", "output text 6 ([MASK])"]
  with pytest.raises(UserError, match="there are 7"):
    maps_of("mlm", subject, module="decoder", outputs="7")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"module": "foo"}, "encoder/cross_attention/attention"),
        ({"heads": "1"}, "--heads=1: there are 1, from 0 on"),
        ({"latents": "0,x"}, "'x' is neither a number nor"),
        ({"module": "processor", "layer": 2}, "--layer=2: there are 2"),
        ({"block": 1}, "has no blocks"),
        ({"module": "decoder", "outputs": "pixel:3"}, "there is ['class']"),
    ],
)
def test_what_the_model_has_not_is_said(picture, options, message):
  subject = subject_of("imagenet", picture)
  with pytest.raises(UserError) as error:
    maps_of("imagenet", subject, **options)
  assert message in str(error.value)


def test_two_frames_are_one_grid(picture, tmp_path):
  options = Options(module="decoder", outputs="flow:3x5,flow:13x21")
  show_attention.show(
      model("flow"), 2 * [picture], tmp_path / "out", options, ""
  )
  names = sorted(path.name for path in (tmp_path / "out").iterdir())
  start = "picture_decoder-cross_attention"
  assert names == [f"{start}_head0_frames.png", f"{start}_latents.png"]


def test_sound_and_video_have_their_pictures(clip, tmp_path):
  options = Options(latents="0,5", scores=True, one_scale=True)
  show_attention.show(model("kinetics"), [clip], tmp_path, options, "random")
  start = "clip_encoder-cross_attention_scores_head0"
  names = sorted(path.name for path in tmp_path.glob("*.png"))
  assert names == [f"{start}_audio.png", f"{start}_video.png"]


def test_what_is_heard_and_seen_in_a_clip_has_its_pictures(clip, tmp_path):
  show_attention.show(
      model("audioset"), [clip], tmp_path, Options(latents="0,5"), "random"
  )
  start = "clip_encoder-cross_attention_head0"
  names = sorted(path.name for path in tmp_path.glob("*.png"))
  assert names == [f"{start}_audio.png", f"{start}_video.png"]
  subject = subject_of("audioset", clip)
  assert subject.batch["video"].min() < -0.2  # Not in [0, 1] as Kinetics' is.
  assert subject.seconds == 4 / 12.5


def test_the_command(in_fork, picture, tmp_path):
  where = ["--config=configs/imagenet.py:tiny", f"--output={tmp_path / 'out'}"]
  run = lambda *args: Command(
      "scripts.show_attention", "--weights=random", *where, *args
  ).wait()
  code, out, err = run(picture, "--tiff", "--latents=0")
  assert code == 0, err
  assert "1 heads × 7 queries × 196 keys" in out
  start = "picture_encoder-cross_attention_head0_image"
  names = sorted(path.name for path in (tmp_path / "out").iterdir())
  assert names == [f"{start}.png", f"{start}.tiff"]
  code, out, err = in_fork("scripts.show_attention", "--weights=random", *where)
  assert code == 2 and not out
  assert err.splitlines() == [
      "error: there is no input: name files, or write a text"
  ]
