"""XLA's options for each target."""

from perceiver.target import Target


def options(target: Target) -> dict[str, bool]:
  """Options for `jax.jit`'s `compiler_options`.

  They change how a program is scheduled and nothing that it computes. Options
  for asynchronous sums (xla_enable_async_all_reduce, xla_enable_async_reduce_
  scatter_fusion, xla_tpu_enable_data_parallel_all_reduce_opt, xla_tpu_enable_
  async_collective_fusion_fuse_reduce_scatter, xla_tpu_overlap_compute_
  collective_tc, xla_tpu_enable_windowed_einsum_for_reduce_scatter and the like)
  changed nothing in what libtpu 0.0.42 compiles of layers in a loop, and
  xla_tpu_enable_async_collective_fusion_fuse_all_reduce made more gathers wait.

  Args:
    target: the target of compilation.
  """
  if target.devices > 1 and target.platform == "gpu":
    # Otherwise the forward pass waits for the weights of each layer in a loop:
    # with it, those of the next layer are gathered during this one's products.
    return {"xla_gpu_enable_pipelined_all_gather": True}
  if target.platform != "tpu" or target.devices == 1:
    return {}
  return {
      # Otherwise weights that are split over 64 v5e chips are gathered by sums
      # of twice the bytes, for which the chip waits. On v4 it changes nothing.
      "xla_tpu_prefer_async_allgather_to_allreduce": True,
  }
