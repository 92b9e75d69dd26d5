"""Runs a model of Hugging Face's transformers in its own process.

    PYTHON -m tools.comparisons.theirs CONFIG_JSON forward|train
        [--compile] [--bfloat16] [--cuda] [--batch=N]

It calls when it is told to (`timing.serve`). Its result is an object: the
highest memory, the rate of a large matrix product, the versions. It runs where
PyTorch and transformers are, in the root of the repository; what this project
imports need not be there.
"""

from collections.abc import Callable
import sys
from typing import Any

from scripts.benchmarks import timing


def inputs_of(config: Any, torch: Any, batch: int) -> dict[str, Any]:
  """The model's arguments: the noise that ours gets, in their layout."""
  name = config.architectures[0]
  if name == "PerceiverForMaskedLM":
    length = config.max_position_embeddings
    ids = torch.arange(length).remainder(256).expand(batch, length)
    return {"inputs": ids, "attention_mask": torch.ones(batch, length)}
  if name == "PerceiverForOpticalFlow":
    return {"inputs": torch.rand(batch, 2, 27, *config.train_size)}
  if name == "PerceiverForMultimodalAutoencoding":
    _, frames, height, width = config.output_shape
    samples = frames * config.audio_samples_per_frame
    return {
        "inputs": {
            "image": torch.rand(batch, frames, 3, height, width),
            "audio": torch.rand(batch, samples, 1),
            "label": torch.zeros(batch, config.num_labels),
        },
        "subsampled_output_points": {
            "image": torch.arange(frames * height * width // 128),
            "audio": torch.arange(samples // config.samples_per_patch // 128),
            "label": None,
        },
    }
  size = config.image_size
  return {"inputs": torch.rand(batch, 3, size, size)}


def loss_of(logits: Any, torch: Any) -> Any:
  """Cross-entropy with class 0 for classes, mean squares for the rest."""
  if isinstance(logits, dict):
    return torch.stack(
        [x.float().square().mean() for x in logits.values()]
    ).sum()
  if logits.shape[-1] == 2:  # Optical flow.
    return logits.float().square().mean()
  logits = logits.float().reshape(-1, logits.shape[-1])
  labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
  return torch.nn.functional.cross_entropy(logits, labels)


def prepare(
    file: str, what: str, *options: str
) -> tuple[Callable[[], object], Callable[[], dict[str, Any]]]:
  """The measured call, and a function that returns the result."""
  import torch  # pyright: ignore[reportMissingImports]
  import transformers  # pyright: ignore[reportMissingImports]

  cuda, batch = "--cuda" in options, 1
  for option in options:
    if option.startswith("--batch="):
      batch = int(option.removeprefix("--batch="))
  device = "cuda" if cuda else "cpu"
  dtype = torch.bfloat16 if "--bfloat16" in options else torch.float32
  config = transformers.PerceiverConfig.from_json_file(file)
  model = getattr(transformers, config.architectures[0])(config).to(device)

  def moved(x: Any) -> Any:
    if isinstance(x, dict):
      return {name: moved(value) for name, value in x.items()}
    return x if x is None else x.to(device)

  arguments = moved(inputs_of(config, torch, batch))
  run = model
  if "--compile" in options:
    run = torch.compile(model)
  wait = torch.cuda.synchronize if cuda else lambda: None

  def logits():
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
      return run(**arguments).logits

  if what == "forward":
    model.eval()

    def call():
      with torch.no_grad():
        logits()
      wait()

  else:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def call():
      optimizer.zero_grad()
      loss_of(logits(), torch).backward()
      torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
      optimizer.step()
      wait()

  def result():
    peak = torch.cuda.max_memory_allocated() if cuda else timing.peak_bytes()
    x = torch.ones(timing.MATRIX, timing.MATRIX, dtype=dtype, device=device)

    def product():
      torch.mm(x, x)
      wait()

    return {
        "peak_bytes": peak,
        "product_flops_per_second": timing.product_rate(product),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }

  return call, result


if __name__ == "__main__":
  timing.serve(*prepare(*sys.argv[1:]))
