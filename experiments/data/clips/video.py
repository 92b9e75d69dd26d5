"""Reads and writes files of video with sound.

Times are in seconds and start with the first frame, or in a file that has none,
with the sound.
"""

from collections.abc import Iterator
import contextlib
import fractions
import os
from typing import Any

import av
import av.error
import cv2
import numpy as np

from experiments.data import errors
from experiments.data.errors import DataError

# Some containers round times to milliseconds, so a frame may be this late.
_JITTER = 1e-3
# Where times and numbers of samples differ by more, the sound has a gap.
_MAX_DRIFT = 0.05
# Seconds. Where nothing comes for longer, a time in the file is damaged, and
# what fills the gap would not fit into memory.
_LONGEST_GAP = 600.0
# Samples per second that AAC can have.
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Decoding begins so much earlier: sound depends on the sound before.
_WARM_UP = 1.0


def read_frames(
    path: str | os.PathLike[str],
    num_frames: int | None = None,
    fps: float = 25.0,
    start: float = 0.0,
) -> np.ndarray:
  """The frames at times that are 1/fps apart.

  Args:
    path: the file.
    num_frames: number of frames; by default all to the end.
    fps: frames per second, whatever the file has, even if it varies.
    start: of the first one, in seconds.

  Returns:
    RGB, uint8 [T, Y, X, 3].

  Raises:
    DataError: if there are not so many, or none.
  """
  images = []
  with _naming(path):
    for frame, until in _shown(path, start):
      image = None
      while len(images) != num_frames and (
          start + len(images) / fps < until - _JITTER
      ):
        image = _upright(frame) if image is None else image
        images.append(image)
      if len(images) == num_frames:
        break
  if len(images) < (num_frames or 1):
    raise DataError(
        f"{path} has {len(images)} frames from {start} s on at {fps} fps,"
        f" {num_frames or 1} are needed"
    )
  return np.stack(images)


def read_audio(
    path: str | os.PathLike[str],
    num_samples: int | None = None,
    rate: int = 48000,
    start: float = 0.0,
) -> np.ndarray:
  """The first channel of the sound.

  Args:
    path: the file.
    num_samples: how many; by default all to the end. Where the file has no
      sound, there is silence.
    rate: samples per second, whatever the file has.
    start: of the first one, in seconds.

  Returns:
    float32 [S, 1] in [-1, 1], of 16 bits.

  Raises:
    DataError: if there is no sound and the number of samples is not given.
  """
  pieces, end = [], None
  with _naming(path):
    for piece, time in _heard(path, rate, start):
      begin = round((time - start) * rate)
      if abs(begin - (end or 0)) > _LONGEST_GAP * rate:
        raise DataError(f"{path} has no sound for {_LONGEST_GAP:g} s and more")
      # Only a real gap is one: rounded times must not cut the sound to pieces.
      if end is None or abs(begin - end) > _MAX_DRIFT * rate:
        end = begin
      pieces.append((end, piece))
      end += len(piece)
      if num_samples is not None and end >= num_samples:
        break
  if num_samples is None:
    if end is None or end < 1:
      raise DataError(f"{path} has no sound from {start} s on")
    num_samples = end
  audio = np.zeros([num_samples, 1], np.float32)
  for begin, piece in pieces:
    piece = piece[max(-begin, 0) : max(num_samples - begin, 0)]
    begin = max(begin, 0)
    audio[begin : begin + len(piece), 0] = piece / 32768.0
  return audio


def frame_rate(path: str | os.PathLike[str], default: float = 25.0) -> float:
  """Frames per second of a video, or the default if unknown.

  Raises:
    DataError: if it has no video.
  """
  with _naming(path):
    opened: Any = av.open(os.fspath(path))
    with opened as container:
      if not container.streams.video:
        raise DataError(f"{path} has no video")
      return float(container.streams.video[0].average_rate or default)


def squared(frames: np.ndarray, size: int) -> np.ndarray:
  """The central square of each frame, resized: uint8 [T, size, size, 3].

  Source: official video autoencoding notebook.
  """
  height, width = frames.shape[1:3]
  side = min(height, width)
  top, left = height // 2 - side // 2, width // 2 - side // 2
  frames = frames[:, top : top + side, left : left + side]
  return np.stack([cv2.resize(frame, (size, size)) for frame in frames])


def write(
    path: str | os.PathLike[str],
    frames: np.ndarray,
    fps: float = 25.0,
    audio: np.ndarray | None = None,
    rate: int = 48000,
) -> None:
  """Writes a video as H.264, with its sound as AAC.

  Args:
    path: the file; its ending says the container, such as MP4.
    frames: RGB, uint8 [T, Y, X, 3]. H.264 has even sizes only: the last row and
      column are doubled where needed.
    fps: frames per second.
    audio: float32 [S, 1] in [-1, 1], if there is any.
    rate: its samples per second. AAC has certain ones; from another, sound is
      resampled to the next higher of those.
  """
  _, height, width, _ = frames.shape
  even = [(0, 0), (0, height % 2), (0, width % 2), (0, 0)]
  frames = np.pad(frames, even, mode="edge")
  with av.open(os.fspath(path), "w") as container:
    # All streams have to be there before anything is written.
    exact_fps = fractions.Fraction(fps).limit_denominator(1001)
    video: Any = container.add_stream("h264", rate=exact_fps)
    video.height, video.width = frames.shape[1:3]
    video.pix_fmt = "yuv420p"
    sound: Any = None
    sound_rate = next((r for r in _AAC_RATES if r >= rate), _AAC_RATES[-1])
    if audio is not None:
      sound = container.add_stream("aac", rate=sound_rate, layout="mono")
    for image in frames:
      frame = av.VideoFrame.from_ndarray(image, format="rgb24")
      container.mux(video.encode(frame))
    container.mux(video.encode())
    if audio is not None:
      channels = np.ascontiguousarray(audio.T, np.float32)
      heard = av.AudioFrame.from_ndarray(channels, "fltp", "mono")
      heard.sample_rate = rate
      heard.pts, heard.time_base = 0, fractions.Fraction(1, rate)
      resampler = av.AudioResampler("fltp", "mono", sound_rate)
      for piece in [*resampler.resample(heard), *resampler.resample(None)]:
        container.mux(sound.encode(piece))
      container.mux(sound.encode())


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns errors of the decoder into a DataError.

  Raises:
    FileNotFoundError: if there is no such file.
  """
  errors.opened(path).close()
  with errors.naming(path):
    try:
      yield
    except av.error.FFmpegError as error:  # Some look like errors of a disk.
      raise DataError(
          f"{os.fspath(path)}: expected a whole video or sound file, found:"
          f" {error.strerror}"
      ) from error


def _shown(path, start: float) -> Iterator[tuple[Any, float]]:
  """Every frame with the time of the next one."""
  last, end = None, 0.0
  for frame, origin in _decoded(path, "video", start):
    begin = frame.time - origin
    if last is not None and abs(begin - end) > _LONGEST_GAP:
      raise DataError(f"{path} has a gap from {end:g} s to {begin:g} s")
    if last is not None:
      yield last, begin
    duration = (frame.duration or 0) * float(frame.time_base)
    # Even a frame whose duration is unknown is seen when it comes.
    last, end = frame, begin + max(duration, 2.0 * _JITTER)
  if last is not None:
    yield last, end


def _upright(frame) -> np.ndarray:
  """RGB of a frame, rotated as its file specifies."""
  return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def _heard(path, rate: int, start: float) -> Iterator[tuple[np.ndarray, float]]:
  """Pieces of the first channel, int16, with their start times."""
  # Every channel is kept until then: a mix of them is another sound.
  resampler: Any = av.AudioResampler(format="s16p", rate=rate)
  origin = 0.0
  for frame, origin in _decoded(path, "audio", start):
    for piece in resampler.resample(frame):
      yield piece.to_ndarray()[0], piece.time - origin
  for piece in resampler.resample(None):
    yield piece.to_ndarray()[0], piece.time - origin


def _decoded(
    path, kind: str, start: float, seek: bool = True
) -> Iterator[tuple[Any, float]]:
  """Frames from before `start` on, none if the file has none of this kind.

  Args:
    path: the file.
    kind: "video" or "audio".
    start: in seconds.
    seek: whether to skip most of what is before.

  Yields:
    a frame, and what its clock says at time zero.
  """
  # Its types are those of all that can be opened.
  opened: Any = av.open(os.fspath(path))
  with opened as container:
    streams = container.streams
    stream = streams.best(kind)
    if stream is None:
      return
    first = streams.best("video") or stream
    origin = float((first.start_time or 0) * first.time_base)
    begin = origin + start - _WARM_UP
    seek = seek and begin > origin
    if seek:
      container.seek(int(begin / stream.time_base), stream=stream)
    for frame in container.decode(stream):
      if frame.time is None:
        raise DataError(f"{path} has no times for its {kind}")
      if seek and frame.time > begin:
        break  # The file's index is missing or wrong.
      seek = False
      yield frame, origin
  if seek:
    yield from _decoded(path, kind, start, seek=False)
