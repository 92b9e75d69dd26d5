"""Encode, process, decode: the modules of figure 2 of Perceiver IO.

Axes: B examples; input array M × C; latent array N × D; output queries O × E.
"""

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
import math
from typing import Annotated, Any

from einops import rearrange
import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float

from perceiver import bounds
from perceiver import context
from perceiver import layout
from perceiver.attention import CrossAttention
from perceiver.attention import SelfAttention
from perceiver.learned import KEPT
from perceiver.learned import LearnedArray

# Parameters under a module of this name hold one layer per row: an optimizer
# that looks at whole tensors must look at each row by itself.
STACK = "layers"

# Layers of a loop's body, at most, by default. Elsewhere: 1. On several TPUs
# the weights of the next layer are gathered during this one's products. Where
# all layers run several times, two loops, one in the other, copy what the inner
# one keeps for the backward pass.
_UNROLLED = {"tpu": 6}


@dataclasses.dataclass
class Encoder(hk.Module):
  """Encodes the input array into the latent array.

  Attributes:
    num_latents: N, rows of the latent array.
    latent_channels: D, channels of each latent.
    num_heads: number of heads of the cross-attention.
    qk_channels: channels of queries and keys; None: C, of the input array.
    v_channels: channels of values; None: qk_channels.
    widening_factor: hidden channels of the MLP over its input channels.
    use_query_residual: whether the result of attention is added to the
      learned latents.
    name: name of the module in parameter paths; None: that of its class.
  """

  num_latents: int
  latent_channels: int
  num_heads: int = 1
  qk_channels: int | None = None
  v_channels: int | None = None
  widening_factor: int = 1
  use_query_residual: bool = True
  name: str | None = None

  def __call__(
      self,
      x: Float[Array, "B M C"],
      mask: Bool[Array, "B M"] | None = None,
  ) -> Float[Array, "B {self.num_latents} {self.latent_channels}"]:
    """z, the latent array.

    Args:
      x: the input array.
      mask: True at visible elements of x. Without any, z depends on the latents
        only.
    """
    latents = LearnedArray(
        self.num_latents, self.latent_channels, name="latents"
    )
    return self.reader("cross_attention")(latents(), x, mask)

  @hk.transparent
  def reader(self, name: str) -> Callable[..., Array]:
    """A cross-attend (z, x, mask) -> z, with the weights `name`."""
    module = CrossAttention(
        num_heads=self.num_heads,
        qk_channels=self.qk_channels,
        v_channels=self.v_channels,
        widening_factor=self.widening_factor,
        use_query_residual=self.use_query_residual,
        name=name,
    )

    def read(z, x, mask):
      # Parameters are read in the dtype to compute in: z has it, x may not.
      x, mask = layout.place_evenly(x.astype(z.dtype), mask)
      return module(z, x, None if mask is None else mask[:, None, :])

    return read


@dataclasses.dataclass
class Processor(hk.Module):
  """Layers of self-attention over the latent array.

  The parameters of all layers are stacked and the layers scanned, so that the
  compiled program does not grow with depth.

  Attributes:
    layers_per_block: number of self-attention layers of a block, each with
      its own weights.
    num_blocks: number of blocks, one after the other.
    share_blocks: whether all blocks use the same weights.
    num_heads: number of heads of each layer, a divisor of D.
    qk_channels: channels of queries and keys; None: D, of the latent array.
    widening_factor: hidden channels of each MLP over its input channels.
    remat: recompute layers in the backward pass: less memory, more time.
    remat_policy: values that are kept nevertheless: a name in
      `jax.checkpoint_policies`.
    unroll: layers in the body of a loop; None: depends on the target.
    name: name of the module in parameter paths; None: that of its class.
  """

  layers_per_block: int
  num_blocks: int = 1
  share_blocks: bool = True
  num_heads: int = 8
  qk_channels: int | None = None
  widening_factor: int = 1
  remat: bool = False
  remat_policy: str = "nothing_saveable"
  unroll: int | None = None
  name: str | None = None

  def __call__(self, z: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    """The latent array after num_blocks * layers_per_block layers."""
    for name in ("num_blocks", "layers_per_block"):
      bounds.check(f"{self.module_name}: {name}", getattr(self, name), 1)
    repeats, layers = self.num_blocks, self.layers_per_block
    if not self.share_blocks:
      repeats, layers = 1, repeats * layers
    # A plain function: a method would put this module's path into its layers'.
    layer = lambda z: SelfAttention(
        num_heads=self.num_heads,
        qk_channels=self.qk_channels,
        widening_factor=self.widening_factor,
        name="self_attention",
    )(z)
    policy = self.remat_policy if self.remat else None
    return scan_layers(layer, z, layers, repeats, policy, self.unroll)


def scan_layers(
    layer: Callable[[Array], Array],
    z: Float[Array, "B N D"],
    num_layers: int,
    repeats: int = 1,
    remat_policy: str | None = None,
    unroll: int | None = None,
) -> Float[Array, "B N D"]:
  """An array after layers of one kind, each with its own parameters.

  Call it in a module: the parameters are stacked under its path, in `STACK`.

  Args:
    layer: Haiku code that creates its modules when it is called.
    z: an array.
    num_layers: number of layers.
    repeats: number of times that all of them run.
    remat_policy: recompute layers in the backward pass, except for the values
      that this policy keeps (`jax.checkpoint_policies`). None: keep all values;
      on a TPU, those that are costly to compute again (`learned.kept`).
    unroll: layers in the body of the loop; None: depends on the target.

  Raises:
    ValueError: if these do not divide the layers, or there is no such policy.
  """
  unroll = unroll or _unrolled(num_layers, repeats)
  if num_layers % unroll:
    raise ValueError(f"unroll {unroll} does not divide {num_layers} layers.")
  pure = hk.transform(layer)
  initialise = jax.vmap(pure.init, in_axes=(0, None))
  with context.no_recording():  # What is drawn at first is no read.
    stacked = hk.lift(
        lambda z: initialise(hk.next_rng_keys(num_layers), z),
        allow_reuse=True,
        name=STACK,
    )(z)

  module = hk.experimental.current_name()
  is_recording = context.recording() is not None
  remembering, given = context.remembering(), {}
  if remembering is not None and remembering.given is not None:
    prefix = f"{module}/{STACK}/"
    given = {
        path.removeprefix(prefix): memory
        for path, memory in remembering.given.items()
        if path.startswith(prefix)
    }

  def apply_layer(z, row):
    params, given = row
    weights, kept = {}, {}
    with contextlib.ExitStack() as stack:
      if is_recording:
        weights = stack.enter_context(context.record_attention())
      if remembering is not None:
        kept = stack.enter_context(context.remember(given or None))
      z = pure.apply(params, None, z)
    return z, (weights, kept)

  policy = None
  if remat_policy is not None:
    policy = getattr(jax.checkpoint_policies, remat_policy, None)
    if policy is None:
      raise ValueError(
          f"remat_policy {remat_policy!r} is not in jax.checkpoint_policies."
      )
  elif context.current_target().platform == "tpu":
    policy = jax.checkpoint_policies.save_only_these_names(KEPT)
  if policy is not None:
    apply_layer = jax.checkpoint(apply_layer, prevent_cse=False, policy=policy)

  def apply_layers(z, rows):
    collected = []
    for row in rows:
      z, extra = apply_layer(z, row)
      collected.append(extra)
    return z, jax.tree.map(lambda *x: jnp.stack(x), *collected)

  if repeats > 1 and remembering is not None:
    raise ValueError("keys and values of repeated layers cannot be kept")

  def run(stacked, z):
    stacked = stacked, given
    if unroll == 1:
      apply_block = lambda z, _: jax.lax.scan(apply_layer, z, stacked)
    elif unroll == num_layers:
      rows = _rows(stacked)
      apply_block = lambda z, _: apply_layers(z, rows)
    else:
      groups = jax.tree.map(
          lambda x: x.reshape(-1, unroll, *x.shape[1:]), stacked
      )

      def apply_block(z, _):
        z, extra = jax.lax.scan(
            lambda z, group: apply_layers(z, _rows(group)), z, groups
        )
        return z, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), extra)

    if repeats == 1:
      return apply_block(z, None)
    return jax.lax.scan(apply_block, z, None, length=repeats)

  if repeats == 1 or is_recording:
    z, (weights, kept) = run(stacked, z)
  else:
    # What all repeats share is gathered once, and its gradient summed once.
    z = layout.per_example(lambda *args: run(*args)[0], stacked, z)
    weights, kept = {}, {}
  for path, value in weights.items():
    context.record(f"{module}/{STACK}/{path}", value)
  if remembering is not None:
    remembering.kept.update(
        {f"{module}/{STACK}/{path}": memory for path, memory in kept.items()}
    )
  return z


def _unrolled(num_layers: int, repeats: int) -> int:
  """Number of layers in the body of a loop on the target."""
  target = context.current_target()
  if repeats == 1 and target.devices == 1:
    return 1  # Products then read and write stacks of weights themselves.
  most = _UNROLLED.get(target.platform, 1)
  return next(n for n in range(most, 0, -1) if num_layers % n == 0)


def _rows(stacked: Any) -> list[Any]:
  """A tree for each row of the arrays of a tree."""
  # Its gradient is a concatenation; that of indexing, a sum of padded arrays.
  split = lambda x: [row[0] for row in jax.lax.split(x, [1] * len(x), axis=0)]
  leaves, tree = jax.tree.flatten(stacked)
  return [
      jax.tree.unflatten(tree, row)
      for row in zip(*map(split, leaves), strict=True)
  ]


@dataclasses.dataclass
class RepeatedEncoder(hk.Module):
  """The original Perceiver: several cross-attends to the input array.

  Cross-attends and blocks of the processor alternate, or all cross-attends come
  first. The first cross-attend always has its own weights.

  Attributes:
    encoder: settings of `Encoder`, for each cross-attend.
    processor: settings of `Processor`, whose blocks are divided among the
      cross-attends; with num_blocks 0 there are only cross-attends.
    num_reads: number of cross-attends to the input array.
    interleave: whether blocks follow each cross-attend; False: blocks come
      last.
    share_reads: whether cross-attends after the first share weights.
    name: name of the module in parameter paths; None: that of its class.

  Source: Perceiver, §4.1, Tables 5 to 7.
  """

  encoder: Annotated[Mapping[str, Any], Encoder]
  processor: Annotated[Mapping[str, Any], Processor]
  num_reads: int = 8
  interleave: bool = True
  share_reads: bool = True
  name: str | None = None

  def __call__(
      self,
      x: Float[Array, "B M C"],
      mask: Bool[Array, "B M"] | None = None,
  ) -> Float[Array, "B N D"]:
    """The latent array after all cross-attends and blocks."""
    bounds.check(f"{self.module_name}: num_reads", self.num_reads, 1)
    encoder = Encoder(**self.encoder, name="encoder")
    process = self._processors()
    if self.share_reads:  # A second module of the same name has other weights.
      reads = [encoder.reader("read_again")] * (self.num_reads - 1)
    else:
      names = [f"read_{i + 1}" for i in range(1, self.num_reads)]
      reads = [encoder.reader(name) for name in names]
    z = encoder(x, mask)
    if self.interleave:
      z = process[0](z)
    for i, read in enumerate(reads, start=1):
      z = read(z, x, mask)
      if self.interleave:
        z = process[i](z)
    return z if self.interleave else process[0](z)

  @hk.transparent
  def _processors(self):
    """The processor after each cross-attend; shared ones are one object."""
    settings = dict(self.processor)
    num_blocks = settings.pop("num_blocks", Processor.num_blocks)
    if num_blocks == 0:
      return [lambda z: z] * self.num_reads
    share = settings.get("share_blocks", Processor.share_blocks)
    turns = self.num_reads if self.interleave else 1
    if num_blocks % turns:
      raise ValueError(
          f"{self.module_name}: {num_blocks} blocks do not divide evenly among"
          f" {turns} reads."
      )
    settings["num_blocks"] = num_blocks // turns
    if share:
      return [Processor(**settings, name="processor")] * turns
    return [
        Processor(**settings, name=f"processor_{i + 1}") for i in range(turns)
    ]


@dataclasses.dataclass
class Decoder(hk.Module):
  """Decodes output queries: cross-attention to the latent array.

  Attributes:
    num_heads: number of heads of the cross-attention.
    qk_channels: channels of queries and keys; None: D, of the latent array.
    v_channels: channels of values; None: qk_channels.
    widening_factor: hidden channels of the MLP over its input channels.
    use_query_residual: whether the result of attention is added to the query.
    chunk: number of queries that are decoded at a time, and recomputed in the
      backward pass to save memory; None: all at once.
    name: name of the module in parameter paths; None: that of its class.
  """

  num_heads: int = 1
  qk_channels: int | None = None
  v_channels: int | None = None
  widening_factor: int = 1
  use_query_residual: bool = True
  chunk: int | None = None
  name: str | None = None

  def __call__(
      self,
      query: Float[Array, "#B O E"],
      z: Float[Array, "B N D"],
      mask: Bool[Array, "B O"] | None = None,
      head: Callable[[Array], Array] = lambda y: y,
  ) -> Float[Array, "B O K"]:
    """The output array.

    Args:
      query: output queries; one example stands for all. Queries are independent
        of each other, so decoding them in chunks changes only the memory.
      z: the latent array.
      mask: False at padded queries: their outputs do not depend on z.
      head: a function of each output, [B, o, E] to [B, o, K], such as a linear
        layer. With chunks only its results are kept, not the outputs.
    """
    if self.chunk is not None:
      bounds.check(f"{self.module_name}: chunk", self.chunk, 1)
    module = CrossAttention(
        num_heads=self.num_heads,
        qk_channels=self.qk_channels,
        v_channels=self.v_channels,
        widening_factor=self.widening_factor,
        use_query_residual=self.use_query_residual,
        name="cross_attention",
    )

    def read(query, mask):
      placed, mask = layout.place_evenly(query, mask)
      y = module(placed, z, None if mask is None else mask[:, :, None])
      return head(y[:, : query.shape[1]])

    query = query.astype(z.dtype)
    num_queries = query.shape[1]
    chunk = self.chunk or num_queries
    # A loop's body may neither make parameters nor hand out weights.
    whole = hk.running_init() or context.recording() is not None
    if chunk >= num_queries or whole:
      return read(query, mask)

    # Every chunk has rows of all places that the queries are split over, those
    # of a place next to each other: on one device a chunk is not copied.
    places = math.gcd(chunk, layout.parts())

    def split(array):
      padding = -num_queries % chunk
      padding = [(0, 0), (0, padding)] + [(0, 0)] * (array.ndim - 2)
      array = jnp.pad(array, padding)
      rows = chunk // places
      return rearrange(
          array, "b (p n o) ... -> n b (p o) ...", p=places, o=rows
      )

    # None is a tree without arrays, so a missing mask stays None.
    chunks = jax.tree.map(split, (query, mask))
    one = hk.remat(lambda queries: read(*queries), prevent_cse=False)
    y = hk.map(one, chunks)
    y = rearrange(y, "n b (p o) e -> b (p n o) e", p=places)
    return y[:, :num_queries]


@dataclasses.dataclass
class AverageDecoder(hk.Module):
  """The head of the original Perceiver: a linear layer of the mean latent.

  Its weights are initialised with zeros.

  Attributes:
    num_outputs: length of the vector, such as the number of classes.
    name: name of the module in parameter paths; None: that of its class.

  Source: Perceiver IO, figure 6; official behaviour.
  """

  num_outputs: int
  name: str | None = None

  def __call__(
      self, z: Float[Array, "B N D"]
  ) -> Float[Array, "B {self.num_outputs}"]:
    """One vector per example."""
    project = hk.Linear(self.num_outputs, w_init=jnp.zeros, name="logits")
    return project(z.mean(axis=1))
