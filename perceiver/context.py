"""Settings of a caller that apply to every module called inside.

A setting that concerns all modules of a model alike is none of their settings:
no signature and no config of a module grows with it. Each is a variable of a
context (`contextvars`), which a `with` statement sets:

| set by             | it says                     | read by
|--------------------|-----------------------------|-----------------------------
| `record_attention` | where attention weights, or | `Attention`, `scan_layers`,
|                    | scores, are to be collected | `Decoder`
| `no_recording`     | that none are               | the same
| `remember`         | where keys and values are   | `Attention`, `scan_layers`
|                    | kept, and those from before |
| `attend_by`        | which implementation to use | `kernels.softmax.attend`
| `attended_by`      | where to note which is used | `kernels.softmax.attend`
| `products_in`      | how an attention's products | `orders.choose`
|                    | are bracketed               |
| `ordered_by`       | where to note how they are  | `orders.choose`
| `laid_out_by`      | where large arrays live     | `layout.place`,
|                    |                             | `kernels.softmax.attend`
| `compiled_for`     | what is compiled for        | `kernels`, `Linear`,
|                    |                             | `orders`
| `compute_in`       | the dtype to compute in     | Haiku, for all parameters;
|                    |                             | `cast`

They act while JAX traces a function, so open them inside of what is compiled,
or around its first call.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from contextvars import ContextVar
import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import haiku as hk
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Bool
from jaxtyping import Float
from jaxtyping import Int

from perceiver import target as targets
from perceiver.target import Target

AUTO = "auto"
IMPLEMENTATIONS = (AUTO, "plain", "blocked", "cudnn", "tpu")
ORDERS = ("cheapest", "written")

# (q, k, v, mask, constants, causal, axis=): with the name of an axis, of parts.
Attend = Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Recording:
  """The weights that `record_attention` collects."""

  maps: dict[str, Array]
  of_scores: bool  # Instead of weights.


class Memory(NamedTuple):
  """Keys and values of an attention; leading axes are possible."""

  k: Float[Array, "*layers B M H F"]
  v: Float[Array, "*layers B M H V"]
  seen: Bool[Array, "*layers B M"]  # False: padding, or nothing yet.
  used: Int[Array, "*layers"]  # Rows that are filled; the next one is there.

  def grown(self, rows: int) -> "Memory":
    """The memory with additional empty rows."""
    more = lambda x, axis: jnp.pad(
        x, [(0, rows if i == axis else 0) for i in range(-x.ndim, 0)]
    )
    return self._replace(
        k=more(self.k, -3), v=more(self.v, -3), seen=more(self.seen, -1)
    )

  def with_next(self, k: Array, v: Array) -> "Memory":
    """The memory with one more element, [B, 1, H, _]."""
    put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(
        x, new.astype(x.dtype), self.used, axis=1
    )
    seen = put(self.seen, jnp.ones_like(self.seen[:, :1]))
    return Memory(put(self.k, k), put(self.v, v), seen, self.used + 1)


@dataclasses.dataclass(frozen=True)
class Remembering:
  """The state of `remember`: new and given keys and values."""

  kept: dict[str, Memory]
  given: Mapping[str, Memory] | None


@runtime_checkable
class Layout(Protocol):
  """The sharding of large arrays, as the caller chooses it.

  Nothing in this package knows of devices. Whoever runs a model on several says
  what happens to the arrays that are worth splitting: all that have a row for
  each element of the input array (M), of the latent array (N) or of the output
  queries (O), and attention itself.
  """

  @property
  def parts(self) -> int:
    """The number of parts that the rows of an array are split into."""
    ...

  def place(self, x: Array) -> Array:
    """x [B, rows, C], sharded; not split if its rows do not divide."""
    ...

  def per_example(
      self, function: Callable[[Any, Array], Array], shared: Any, x: Array
  ) -> Array:
    """function(shared, x), applied to each example separately."""
    ...

  def attend(
      self,
      attend: Attend,
      q: Array,
      k: Array,
      v: Array | None,
      mask: Array | None,
      constants: Array | None,
      causal: int | None,
  ) -> Array:
    """attend(q, k, v, mask, constants, causal), computed in parts and joined.

    The causal rule counts a part's queries and keys from its own first.
    """
    ...


_remembering: ContextVar[Remembering | None] = ContextVar(
    "remembering", default=None
)
_recording: ContextVar[Recording | None] = ContextVar("recording", default=None)
_implementation: ContextVar[str] = ContextVar("implementation", default=AUTO)
_taken: ContextVar[dict[str, str] | None] = ContextVar("taken", default=None)
_order: ContextVar[str | None] = ContextVar("order", default=None)
_orders: ContextVar[dict[str, Any] | None] = ContextVar("orders", default=None)
_layout: ContextVar[Layout | None] = ContextVar("layout", default=None)
_target: ContextVar[Target | None] = ContextVar("target", default=None)
_dtype: ContextVar[str | None] = ContextVar("dtype", default=None)
_as_kept: ContextVar[bool] = ContextVar("as_kept", default=False)


@contextlib.contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
  token = variable.set(value)
  try:
    yield
  finally:
    variable.reset(token)


@contextlib.contextmanager
def record_attention(scores: bool | None = None) -> Iterator[dict[str, Array]]:
  """Collects the attention weights of every module called inside.

  Open it inside the function that JAX transforms, and return what it collects:
  a compiled function does not run Python again.

  Args:
    scores: whether to collect what the softmax is taken of instead, -∞ where a
      key is masked; None: as in the recording that this one is inside of.

  Yields:
    a dict, filled as modules are called: module path -> weights [B, H, N, M];
    a processor's layers are stacked, [layers, B, H, N, N], and if its blocks
    share weights, [blocks, layers, B, H, N, N]. Further calls of the same
    module are PATH#2, PATH#3, ...
  """
  if scores is None:
    outer = recording()
    scores = outer is not None and outer.of_scores
  weights: dict[str, Array] = {}
  with _set(_recording, Recording(weights, scores)):
    yield weights


@contextlib.contextmanager
def no_recording() -> Iterator[None]:
  """Turns recording and caching off inside, as in the body of a loop.

  Yields:
    nothing.
  """
  with _set(_recording, None), _set(_remembering, None):
    yield


def recording() -> Recording | None:
  """The recording of the innermost `record_attention`, or None."""
  return _recording.get()


def record(path: str, weights: Array) -> None:
  """Adds a module's weights to the innermost `record_attention`."""
  inner = recording()
  if inner is None:
    return
  name, calls = path, 1
  while name in inner.maps:
    calls += 1
    name = f"{path}#{calls}"
  inner.maps[name] = weights


@contextlib.contextmanager
def remember(
    given: Mapping[str, Memory] | None = None,
) -> Iterator[dict[str, Memory]]:
  """Keeps the keys and values of every attention called inside.

  Like `record_attention`, open it inside of what JAX transforms and return what
  it collects.

  Args:
    given: what was kept before, by the same modules, with rows to spare
      (`Memory.grown`). The arrays that are read then have one element, the
      next, and attention also reads what came before it. None: they have all
      there is so far.

  Yields:
    a dict, filled as modules are called: module path -> `Memory`; a processor's
    layers are stacked.
  """
  kept: dict[str, Memory] = {}
  with _set(_remembering, Remembering(kept, given)):
    yield kept


def remembering() -> Remembering | None:
  """The state of the innermost `remember`, or None."""
  return _remembering.get()


def attend_by(
    implementation: str,
) -> contextlib.AbstractContextManager[None]:
  """Sets the attention implementation inside; the outermost setting wins.

  Args:
    implementation: "plain" holds all scores; "blocked" never does, and computes
      them again in the backward pass; "cudnn" and "tpu" (splash attention) are
      flash attention of the accelerators; "auto" picks by target, shapes, dtype
      and memory.

  Raises:
    ValueError: if it is another.
  """
  if implementation not in IMPLEMENTATIONS:
    raise ValueError(
        f"attention {implementation!r} is not one of {list(IMPLEMENTATIONS)}."
    )
  outer = requested_implementation()
  return _set(_implementation, implementation if outer == AUTO else outer)


def requested_implementation() -> str:
  """The requested attention implementation: one of `IMPLEMENTATIONS`."""
  return _implementation.get()


@contextlib.contextmanager
def attended_by() -> Iterator[dict[str, str]]:
  """Collects the attention implementations of the modules called inside.

  Yields:
    a dict, filled as modules are called: module path -> implementation and
    sizes, as in "blocked, 512 × 50,176".
  """
  taken: dict[str, str] = {}
  with _set(_taken, taken):
    yield taken


def note_taken(text: str) -> None:
  """Adds a module's implementation to the innermost `attended_by`.

  Args:
    text: the implementation, and sizes.
  """
  _note(_taken, text)


def _note(variable: ContextVar[dict[str, Any] | None], what: Any) -> None:
  notes = variable.get()
  if notes is None:
    return
  try:
    path = hk.experimental.current_name()
  except ValueError:  # It is called by itself.
    path = "attend"
  notes[path] = what


def products_in(order: str) -> contextlib.AbstractContextManager[None]:
  """Sets the order of attention's products inside; the outermost wins.

  Args:
    order: "cheapest", or "written": as in the papers, whatever that costs.

  Raises:
    ValueError: if it is another.
  """
  if order not in ORDERS:
    raise ValueError(f"products {order!r} are not one of {list(ORDERS)}.")
  return _set(_order, _order.get() or order)


def asked_order() -> str:
  """The requested order of attention's products: one of `ORDERS`."""
  return _order.get() or "cheapest"


@contextlib.contextmanager
def ordered_by() -> Iterator[dict[str, Any]]:
  """Collects the orders of products of the modules called inside.

  Yields:
    a dict, filled as modules are called: module path -> (`orders.Sizes`,
    `orders.Order`).
  """
  notes: dict[str, Any] = {}
  with _set(_orders, notes):
    yield notes


def note_order(sizes: Any, order: Any) -> None:
  """Adds a module's sizes and order to the innermost `ordered_by`."""
  _note(_orders, (sizes, order))


def laid_out_by(
    layout: Layout | None,
) -> contextlib.AbstractContextManager[None]:
  """Sets the layout for the modules called inside; None: no layout."""
  return _set(_layout, layout)


def current_layout() -> Layout | None:
  """The current layout."""
  return _layout.get()


def compiled_for(target: Target) -> contextlib.AbstractContextManager[None]:
  """Sets the target that modules called inside are compiled for."""
  return _set(_target, target)


def current_target() -> Target:
  """The target of `compiled_for`, by default all of JAX's devices."""
  return _target.get() or targets.of(jax.devices())


@contextlib.contextmanager
def compute_in(dtype: str) -> Iterator[None]:
  """Makes Haiku modules called inside compute in `dtype`.

  Parameters and state are created in float32 and read as `dtype`; the Encoder
  casts the input array to what it reads, and the rest follows. Softmax, layer
  norms and the sums of attention are taken in float32 in any case.

  Args:
    dtype: "float32" or "bfloat16".

  Yields:
    nothing.

  Raises:
    ValueError: if `dtype` is another.
  """
  if dtype not in ("float32", "bfloat16"):
    raise ValueError(
        f"compute dtype {dtype!r} is not one of ['bfloat16', 'float32']."
    )

  def create(next_creator, shape, original_dtype, init, context):
    del context
    if jnp.issubdtype(original_dtype, jnp.floating):
      original_dtype = jnp.float32
    return next_creator(shape, original_dtype, init)

  def read(next_getter, value, context):
    del context
    value = next_getter(value)
    is_read_so = not _as_kept.get()
    if is_read_so and jnp.issubdtype(value.dtype, jnp.floating):
      value = value.astype(dtype)
    return value

  with (
      _set(_dtype, dtype),
      hk.custom_creator(create, params=True, state=True),
      hk.custom_getter(read, params=True),
  ):
    yield


def parameters_as_kept() -> contextlib.AbstractContextManager[None]:
  """Lets modules called inside read parameters in float32, as stored.

  Whoever uses one rounds it itself (`learned.product` and the like), and its
  gradient is summed in float32 over examples, and so over devices.
  """
  return _set(_as_kept, True)


def cast(x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
  """x in the compute dtype."""
  return x.astype(_dtype.get() or x.dtype)
