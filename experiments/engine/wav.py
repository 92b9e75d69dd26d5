"""Sound as a WAV file, which needs no decoder of video."""

import io
import wave

import numpy as np


def encoded(audio: np.ndarray, rate: int) -> bytes:
  """A WAV file of 16 bits a sample, one channel.

  Args:
    audio: [S, 1] or [S]; what is not in [-1, 1] is clipped.
    rate: samples per second.
  """
  samples = np.round(np.clip(audio, -1.0, 1.0) * 32767.0)
  content = io.BytesIO()
  with wave.open(content, "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes(samples.astype("<i2").tobytes())
  return content.getvalue()
