"""What every config has; a task's config fills in the rest."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The settings that the engine reads."""
  return ConfigDict(
      {
          "task": "",  # experiments/TASK.py
          "seed": 0,  # of parameters, order and all random numbers
          "data_dir": "~/tensorflow_datasets",
          "num_workers": 0,  # processes that prepare input; 0: threads
          "batch_size": 64,  # examples, over all devices
          "accumulate": 1,  # parts that a batch is computed in, one by one
          "train_examples": 64,  # examples seen in all: epochs × examples
          "compute_dtype": "float32",  # or "bfloat16"; parameters stay float32
          "attention": "auto",  # or "plain", "blocked", "cudnn", "tpu"
          # Weights to start from: a run's folder, or a file that
          # scripts/convert_weights.py has written. Parameters whose path has
          # "fresh", a regular expression, in it start anew.
          # "nearby" above 0: new cross-attends read what is near; how sharply.
          # With Fourier features, "grids" say where latents are: a name, and
          # the fields of perceiver.Grid.
          "start": {"weights": "", "fresh": "", "nearby": 0.0, "grids": {}},
          "mesh": {
              # Devices that share each example: its inputs, latents, queries.
              "elements": 1,
              "heads": False,  # In attention they share heads, not queries.
              # Parameters of so many numbers are split over all devices; those
              # of fewer are copied to each.
              "split_from": 2**18,
          },
          "max_grad_norm": 10.0,  # of all gradients together
          "skip_nonfinite": False,  # True: leave it out; False: stop
          "best": "",  # the metric whose best checkpoint is kept
          "best_is_largest": True,
          # May differ when a run is continued; changes nothing that is learned.
          "run": {
              "log_every": 50,  # steps
              "eval_every": 1000,  # steps
              "checkpoint_every": 1000,  # steps
              "checkpoints": "",  # a folder or URL; empty: in the run's folder
              "keep_checkpoints": 2,  # the newest; the best stays beside them
              "profile_from": 10,  # the first step that jax.profiler traces
              "profile_steps": 0,  # how many it traces
          },
      }
  )
