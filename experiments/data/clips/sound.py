"""Sound as a mel-spectrogram, and SpecAugment, which masks parts of it.

Steps of a pipeline; each takes and gives an example with "audio".

The papers do not say how the spectrogram's 4,800 inputs come about. The
settings of configs/audioset.py are the defaults of DeepMind's own reader of
videos, which give just as many: 61,440 samples of 48 kHz in steps of 1024 are
60 frames, and each has 80 bands.

Source: `compute_audio_spectrogram` of https://github.com/google-deepmind/dmvr
"""

import kaldi_native_fbank
import numpy as np

from experiments.data.pipeline import Example

_SILENT = -100.0  # Decibels; what is below does not matter.


def log_mel(
    audio: np.ndarray,
    rate: int,
    hop: int,
    window: int,
    num_bands: int,
    low: float,
    high: float,
) -> np.ndarray:
  """The loudness of each frequency band at each time.

  Bands are triangles, evenly spaced on the mel scale, 1127 ln(1 + f / 700), and
  weigh the magnitudes (not the powers) of a Hann window's spectrum.

  Args:
    audio: [S, 1] in [-1, 1].
    rate: samples per second.
    hop: samples from one frame to the next, which divide S. Frames are centred;
      before the first sample and after the last, the sound is mirrored.
    window: samples of a frame. Its transform has the next power of two.
    num_bands: F.
    low: lower edge of the lowest band in Hz.
    high: upper edge of the highest band in Hz.

  Returns:
    float32 [S / hop, F]: decibels relative to a sine of amplitude 1, divided by
    50, plus 1. So 1 is as loud as can be, 0 is 50 dB below and -1 is 100 dB
    below, or less. No statistics of a data set are needed.

  Raises:
    ValueError: if the hop does not divide the sound, or the bands are so narrow
      that one has no frequency in it.
  """
  samples = audio[:, 0]
  if len(samples) % hop:
    raise ValueError(f"{len(samples)} samples are not a multiple of hop {hop}")
  settings = kaldi_native_fbank.FbankOptions()
  settings.use_power = False
  frames, bands = settings.frame_opts, settings.mel_opts
  frames.samp_freq = rate
  frames.frame_shift_ms = 1000.0 * hop / rate
  frames.frame_length_ms = 1000.0 * window / rate
  frames.window_type = "hann"
  frames.snip_edges = False  # A frame for every hop, also at the ends.
  frames.dither = 0.0  # No noise is added: the same sound looks the same.
  frames.preemph_coeff = 0.0
  bands.num_bins, bands.low_freq, bands.high_freq = num_bands, low, high
  try:
    bank = kaldi_native_fbank.OnlineFbank(settings)
  except ValueError as error:
    raise ValueError(
        f"{num_bands} bands from {low} to {high} Hz are too many for windows of"
        f" {window} samples at {rate} Hz: {error}"
    ) from error
  bank.accept_waveform(rate, samples.tolist())
  bank.input_finished()
  nepers = np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])
  loudest = np.log(window / 4)  # Half the sum of a Hann window.
  decibels = 20 / np.log(10) * (nepers - loudest)
  return (np.maximum(decibels, _SILENT) / 50 + 1).astype(np.float32)


def spectrogram(
    example: Example,
    rate: int,
    hop: int,
    window: int,
    num_bands: int,
    low: float,
    high: float,
) -> Example:
  """A step: samples [S, 1] become a spectrogram [T, F]; see `log_mel`."""
  mel = log_mel(example["audio"], rate, hop, window, num_bands, low, high)
  return {**example, "audio": mel}


def spec_augment(
    example: Example,
    rng: np.random.Generator,
    frequency: int,
    time: int,
    masks: int = 1,
) -> Example:
  """A step: replaces random bands and frames of a spectrogram by its mean.

  Args:
    example: with "audio".
    rng: random generator; widths and places are uniform.
    frequency: the most bands that a mask covers; the least is none.
    time: the most frames that a mask covers.
    masks: of either kind. They may overlap.

  Raises:
    ValueError: if the spectrogram is smaller than a mask.

  Source: SpecAugment (Park et al., 2019), without the warping of time.
  """
  audio = example["audio"]
  if time > audio.shape[0] or frequency > audio.shape[1]:
    raise ValueError(
        f"masks of {time} frames and {frequency} bands, but the spectrogram has"
        f" {audio.shape[0]} and {audio.shape[1]}"
    )
  masked, mean = audio.copy(), audio.mean()
  for _ in range(masks):
    masked[_stretch(len(audio), time, rng)] = mean
    masked[:, _stretch(audio.shape[1], frequency, rng)] = mean
  return {**example, "audio": masked}


def flattened(example: Example) -> Example:
  """A step: the numbers of a spectrogram, frame by frame, [T * F, 1]."""
  return {**example, "audio": example["audio"].reshape(-1, 1)}


def _stretch(length: int, most: int, rng: np.random.Generator) -> slice:
  """A random interval."""
  width = int(rng.integers(most, endpoint=True))
  start = int(rng.integers(length - width, endpoint=True))
  return slice(start, start + width)
