"""Video and sound: times, sync, and what files may be like."""

import fractions

import av
import numpy as np
import pytest

from experiments.data.clips import video

# Gray levels that coding does not confuse.
LEVELS = np.arange(23) * 11


def gray_frames(count=23, height=48, width=64):
  """Frame i has the level i * 11."""
  return np.tile(
      LEVELS[:count, None, None, None].astype(np.uint8), [1, height, width, 3]
  )


def seen(frames):
  """Which frames these are."""
  assert frames.dtype == np.uint8
  return np.round(frames.mean((1, 2, 3)) / 11.0).astype(int).tolist()


def tone(frequency, seconds, rate, begin=0.0):
  """A tone that begins at a time, [S]."""
  time = np.arange(round(seconds * rate)) / rate
  sound = 0.5 * np.sin(2.0 * np.pi * frequency * time)
  return (sound * (time >= begin)).astype(np.float32)


def frequency_of(sound, rate):
  spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
  return spectrum.argmax() * rate / len(sound)


def onset(sound, rate):
  """Seconds until it is heard."""
  return np.argmax(np.abs(sound[:, 0]) > 0.1) / rate


def write_times(path, times, height=48, width=64):
  """A video whose frame i comes after so many milliseconds."""
  with av.open(str(path), "w") as container:
    stream = container.add_stream("h264", rate=1000)
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.codec_context.time_base = fractions.Fraction(1, 1000)
    images = gray_frames(len(times), height, width)
    for image, time in zip(images, times, strict=True):
      frame = av.VideoFrame.from_ndarray(image, format="rgb24")
      frame.pts, frame.time_base = time, fractions.Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_sound(path, sound, layout, rate, codec):
  """A sound of several channels, [S, C]."""
  channels = np.ascontiguousarray(sound.T, np.float32)
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=rate, layout=layout)
    frame = av.AudioFrame.from_ndarray(channels, "fltp", layout)
    frame.sample_rate = rate
    resampler = av.AudioResampler(stream.format, layout, rate)
    for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
      container.mux(stream.encode(piece))


class TestFrames:

  @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
  @pytest.mark.parametrize("fps", [24, 25, 29.97])
  def test_at_the_files_own_rate_every_frame_is_seen_once(
      self, tmp_path, name, fps
  ):
    video.write(tmp_path / name, gray_frames(), fps)
    frames = video.read_frames(tmp_path / name, fps=fps)
    assert seen(frames) == list(range(23))

  def test_colours_are_red_green_blue(self, tmp_path):
    colors = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)
    frames = np.tile(colors[:, None, None], [1, 48, 64, 1])
    video.write(tmp_path / "a.mp4", frames)
    read = video.read_frames(tmp_path / "a.mp4")
    assert np.abs(read.astype(int) - frames).max() < 8

  def test_another_rate_repeats_and_skips_frames(self, tmp_path):
    video.write(tmp_path / "a.mp4", gray_frames(), fps=10)
    read = lambda fps: seen(video.read_frames(tmp_path / "a.mp4", fps=fps))
    assert read(20) == np.repeat(np.arange(23), 2).tolist()
    assert read(5) == list(range(0, 23, 2))
    # On the screen at 0, 2/3, 4/3 .. of a frame's time.
    assert read(15) == [2 * k // 3 for k in range(35)]

  def test_a_frame_is_seen_until_the_next_one_comes(self, tmp_path):
    write_times(tmp_path / "a.mp4", [0, 30, 200, 210, 220, 450, 600])
    frames = video.read_frames(tmp_path / "a.mp4", num_frames=15)
    # 3 is over before a time that counts.
    expected = [0, 1, 1, 1, 1, 2, 4, 4, 4, 4, 4, 4, 5, 5, 5]
    assert seen(frames) == expected

  @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
  def test_the_last_frame_is_seen_however_short_it_is(self, tmp_path, name):
    write_times(tmp_path / name, [0, 40, 80])
    assert seen(video.read_frames(tmp_path / name)) == [0, 1, 2]

  def test_a_start_is_a_time(self, tmp_path):
    video.write(tmp_path / "a.mp4", gray_frames(), fps=10)
    frames = video.read_frames(tmp_path / "a.mp4", 3, fps=10, start=0.7)
    assert seen(frames) == [7, 8, 9]

  @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
  def test_far_starts_are_as_exact(self, tmp_path, name):
    # 23 seconds of which most is skipped, key frames are 12 seconds apart.
    video.write(tmp_path / name, gray_frames(), fps=1)
    for start in (3.0, 11.5, 12.0, 13.0, 20.5):
      frames = video.read_frames(tmp_path / name, 2, fps=1, start=start)
      assert seen(frames) == [int(start), int(start) + 1]

  def test_too_few_frames_are_refused_with_both_numbers(self, tmp_path):
    video.write(tmp_path / "a.mp4", gray_frames(7), fps=25)
    assert len(video.read_frames(tmp_path / "a.mp4", 7)) == 7
    with pytest.raises(ValueError, match="a.mp4 has 7 frames .* 11 are needed"):
      video.read_frames(tmp_path / "a.mp4", 11)
    with pytest.raises(ValueError, match="a.mp4 has 0 frames from 5.0 s"):
      video.read_frames(tmp_path / "a.mp4", start=5.0)

  def test_odd_sizes_gain_a_copy_of_their_edge(self, tmp_path):
    frames = np.full([5, 47, 61, 3], 90, np.uint8)
    frames[:, -1], frames[:, :, -1] = 200, 200
    video.write(tmp_path / "a.mp4", frames)
    read = video.read_frames(tmp_path / "a.mp4")
    assert read.shape == (5, 48, 62, 3)
    for edge in (read[:, -2:], read[:, :, -2:]):
      assert abs(edge.mean() - 200.0) < 8.0
    assert abs(read[:, :-3, :-3].mean() - 90.0) < 4.0

  def test_what_is_no_video_is_refused_by_name(self, tmp_path):
    (tmp_path / "text.mp4").write_text("no video " * 99)
    with pytest.raises(ValueError, match="text.mp4"):
      video.read_frames(tmp_path / "text.mp4")
    with pytest.raises(FileNotFoundError, match="missing.mp4"):
      video.read_frames(tmp_path / "missing.mp4")
    write_sound(
        tmp_path / "a.wav", np.ones([997, 1]), "mono", 8000, "pcm_s16le"
    )
    with pytest.raises(ValueError, match="a.wav has 0 frames"):
      video.read_frames(tmp_path / "a.wav")

  def test_times_that_are_missing_are_missed(self, tmp_path):
    video.write(tmp_path / "a.h264", gray_frames(7))
    with pytest.raises(ValueError, match="a.h264 has no times for"):
      video.read_frames(tmp_path / "a.h264")

  def test_a_phones_video_is_turned_upright(self, tmp_path):
    frames = np.full([5, 48, 64, 3], 30, np.uint8)
    frames[:, :, :32] = 200  # Left.
    video.write(tmp_path / "a.mp4", frames)
    content = (tmp_path / "a.mp4").read_bytes()
    fixed = lambda *values: np.array(values, ">i4").tobytes()
    one = 1 << 16
    upright = fixed(one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    # Clockwise by a quarter: left comes up.
    turned = fixed(0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    track = content.index(b"tkhd")
    begin = content.index(upright, track)
    content = content[:begin] + turned + content[begin + len(upright) :]
    (tmp_path / "a.mp4").write_bytes(content)
    read = video.read_frames(tmp_path / "a.mp4").astype(int)
    assert read.shape == (5, 64, 48, 3)
    assert read[:, :30].min() > 180 and read[:, 34:].max() < 50


class TestAudio:

  @pytest.mark.parametrize("rate", [48000, 44100, 8000])
  def test_a_tone_keeps_its_frequency_and_length(self, tmp_path, rate):
    sound = tone(440, 1.3, rate)[:, None]
    write_sound(tmp_path / "a.wav", sound, "mono", rate, "pcm_s16le")
    read = video.read_audio(tmp_path / "a.wav")
    assert read.dtype == np.float32
    assert read.shape[1] == 1
    assert abs(len(read) - 1.3 * 48000) <= 1
    expected = tone(440, 1.3, 48000)
    inside = slice(480, -480)  # Resampling rings at both ends.
    length = min(len(read), len(expected))
    difference = read[:length, 0][inside] - expected[:length][inside]
    assert np.abs(difference).max() < 2e-3

  def test_samples_are_those_of_16_bits(self, tmp_path):
    values = np.array([-32768, -1, 0, 1, 32767] * 199, np.float32) / 32768
    write_sound(tmp_path / "a.wav", values[:, None], "mono", 48000, "pcm_s16le")
    read = video.read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(read[:, 0], values)

  @pytest.mark.parametrize(
      ("layout", "channels", "codec", "name"),
      [
          ("stereo", 2, "pcm_s16le", "a.wav"),
          ("stereo", 2, "aac", "a.mp4"),
          ("5.1", 6, "pcm_s16le", "a.wav"),
          ("5.1", 6, "aac", "a.mp4"),
      ],
  )
  def test_the_first_channel_is_heard_and_no_other(
      self, tmp_path, layout, channels, codec, name
  ):
    sound = np.stack(
        [tone(300 + 200 * i, 1.1, 44100) for i in range(channels)], axis=1
    )
    write_sound(tmp_path / name, sound, layout, 44100, codec)
    read = video.read_audio(tmp_path / name)[:48000, 0]
    assert abs(frequency_of(read, 48000) - 300) < 2
    assert abs(np.sqrt((read**2).mean()) - 0.5 / np.sqrt(2)) < 0.01

  def test_too_short_a_sound_is_followed_by_silence(self, tmp_path):
    sound = tone(440, 0.1, 48000)[:, None]
    write_sound(tmp_path / "a.wav", sound, "mono", 48000, "pcm_s16le")
    read = video.read_audio(tmp_path / "a.wav", num_samples=7919)
    np.testing.assert_allclose(read[:4800], sound, atol=1e-4)
    assert read.shape == (7919, 1)
    assert not read[4800:].any()

  def test_a_start_is_a_sample(self, tmp_path):
    noise = np.random.default_rng(3).uniform(-0.9, 0.9, [5 * 8000, 1])
    noise = noise.astype(np.float32)
    write_sound(tmp_path / "a.wav", noise, "mono", 8000, "pcm_s16le")
    for start, length in ((0.013, 997), (1.3, 10007), (4.0, 7993)):
      read = video.read_audio(tmp_path / "a.wav", length, 8000, start)
      begin = round(start * 8000)
      np.testing.assert_allclose(read, noise[begin : begin + length], atol=1e-4)

  def test_a_file_without_sound_is_silent_if_it_may_be(self, tmp_path):
    video.write(tmp_path / "a.mp4", gray_frames(7))
    silence = video.read_audio(tmp_path / "a.mp4", num_samples=997)
    np.testing.assert_array_equal(silence, np.zeros([997, 1], np.float32))
    with pytest.raises(ValueError, match="a.mp4 has no sound"):
      video.read_audio(tmp_path / "a.mp4")

  def test_a_gap_is_silent_and_what_follows_is_in_time(self, tmp_path):
    rate = 48000
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
      stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
      for begin in (0, rate):  # Half a second at 0 s and at 1 s.
        sound = np.full([1, rate // 2], 0.5, np.float32)
        frame = av.AudioFrame.from_ndarray(
            (sound * 32768).astype(np.int16), "s16", "mono"
        )
        frame.sample_rate, frame.pts = rate, begin
        frame.time_base = fractions.Fraction(1, rate)
        container.mux(stream.encode(frame))
      container.mux(stream.encode())
    read = video.read_audio(tmp_path / "a.mkv")
    expected = np.repeat([0.5, 0.0, 0.5], rate // 2)
    np.testing.assert_array_equal(read[:, 0], expected)


class TestClip:

  @pytest.mark.parametrize("start", [0.0, 0.2, 1.48])
  def test_what_is_seen_is_heard_at_the_same_time(self, tmp_path, start):
    frames = np.full([60, 48, 64, 3], 20, np.uint8)
    frames[40:] = 220  # White and loud from 1.6 s on.
    sound = tone(1000, 2.4, 48000, begin=1.6)[:, None]
    video.write(tmp_path / "a.mp4", frames, 25, sound)
    length = round((2.4 - start) * 25)
    seen = video.read_frames(tmp_path / "a.mp4", length, start=start)
    heard = video.read_audio(tmp_path / "a.mp4", length * 1920, start=start)
    white = np.argmax(seen.mean((1, 2, 3)) > 127) / 25
    assert abs(white - (1.6 - start)) < 1e-6
    assert abs(onset(heard, 48000) - (1.6 - start)) < 2e-3

  @pytest.mark.parametrize("upright", [False, True])
  def test_the_centre_is_seen_and_the_rest_is_not(self, tmp_path, upright):
    frames = np.full([5, 32, 96, 3], 20, np.uint8)
    frames[:, :, 32:64] = 220
    if upright:
      frames = frames.transpose(0, 2, 1, 3)
    video.write(tmp_path / "a.mp4", frames)
    read = video.squared(video.read_frames(tmp_path / "a.mp4"), 29)
    assert read.shape == (5, 29, 29, 3)
    assert read.min() > 0.8 * 255


@pytest.mark.parametrize("rate", [700, 2000, 9000, 48000])
def test_sound_of_any_rate_is_written_as_it_is_heard(tmp_path, rate):
  sound = tone(101, 2.0, rate)
  video.write(tmp_path / "a.mp4", gray_frames(), 11.5, sound[:, None], rate)
  read = video.read_audio(tmp_path / "a.mp4", rate=rate)[:, 0]
  assert len(read) == pytest.approx(2 * rate, rel=0.1)
  assert frequency_of(read, rate) == pytest.approx(101, abs=2)
