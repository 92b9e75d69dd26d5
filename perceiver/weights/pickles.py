"""Reads pickled trees of arrays without executing code.

A pickle is a program for a small machine with a stack. Python's machine calls
what the program names and sets the state of what comes out: a NumPy dtype whose
state is forged gives pointers that the file has chosen. The machine here has
containers, numbers and texts. The names that NumPy and Haiku write are known to
it; it calls none of them, and arrays are made here, of bytes that the file has
and of dtypes from a fixed list.
"""

from collections.abc import Callable
import math
import pickletools
from typing import Any, NamedTuple

import numpy as np

from perceiver.weights.tensors import dtype_of
from perceiver.weights.tensors import printable
from perceiver.weights.tensors import WeightsError

# Steps of a program. The largest published checkpoint takes some 20,000.
_MOST_STEPS = 200_000
_MOST_AXES = 32
# Operations that put their argument on the stack.
_VALUES = {
    *("INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2"),
    *("FLOAT", "BINFLOAT"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


class Array:
  """An array of a pickle; its content is `value`.

  That is a list if it is of objects, and a WeightsError if it is none that
  weights have: only who knows its name can say which one.
  """

  value: Any = WeightsError("an array without a state")

  def fill(self, *args: Any) -> None:
    """Sets the content: shape, dtype, whether in Fortran's order, bytes."""
    try:
      self.value = _filled(*args)
    except WeightsError as error:
      self.value = error


class _Name(NamedTuple):
  """A name in a pickle."""

  module: str
  name: str


class _DType:
  """A dtype of a pickle."""

  def __init__(self, name: str):
    self.name = name
    self.order = "="


def load(data: bytes) -> Any:
  """The content of a pickle: containers, numbers, texts, bytes and `Array`.

  Keys of dictionaries are texts. Takes memory in proportion to the data.

  Raises:
    WeightsError: if it holds something else; it names what.
    ValueError, IndexError, KeyError: if it is no whole pickle.
  """
  return _Machine(len(data)).run(data)


class _Machine:
  """Runs one pickle."""

  def __init__(self, size: int):
    self._stack: list[Any] = []
    self._outer: list[list[Any]] = []  # Stacks below the marks.
    self._memo: dict[int, Any] = {}
    self._to_encode = size  # Bytes that texts may still become.

  def run(self, data: bytes) -> Any:
    for step, (opcode, arg, _) in enumerate(pickletools.genops(data)):
      if step >= _MOST_STEPS:
        raise WeightsError(f"a pickle of more than {_MOST_STEPS:,} steps")
      if opcode.name == "STOP":
        return self._stack.pop()
      self._step(opcode.name, arg)
    raise ValueError("the pickle has no end")

  def _step(self, operation: str, arg: Any) -> None:
    stack = self._stack
    if operation in _VALUES:
      stack.append(arg)
      return
    match operation:
      case "PROTO" | "FRAME":
        pass
      case "NONE":
        stack.append(None)
      case "NEWTRUE" | "NEWFALSE":
        stack.append(operation == "NEWTRUE")
      case "EMPTY_DICT":
        stack.append({})
      case "DICT":
        items = self._to_mark()
        self._stack.append({})
        self._set(items)
      case "SETITEM":
        value, key = stack.pop(), stack.pop()
        self._set([key, value])
      case "SETITEMS":
        self._set(self._to_mark())
      case "EMPTY_LIST":
        stack.append([])
      case "LIST":
        items = self._to_mark()
        self._stack.append(items)
      case "APPEND":
        self._extend([stack.pop()])
      case "APPENDS":
        self._extend(self._to_mark())
      case "EMPTY_TUPLE":
        stack.append(())
      case "TUPLE":
        items = self._to_mark()
        self._stack.append(tuple(items))
      case "TUPLE1" | "TUPLE2" | "TUPLE3":
        count = int(operation[-1])
        if len(stack) < count:
          raise ValueError("a tuple is larger than the stack")
        stack[-count:] = [tuple(stack[-count:])]
      case "MARK":
        self._outer.append(stack)
        self._stack = []
      case "PUT" | "BINPUT" | "LONG_BINPUT":
        self._memo[arg] = stack[-1]
      case "MEMOIZE":
        self._memo[len(self._memo)] = stack[-1]
      case "GET" | "BINGET" | "LONG_BINGET":
        stack.append(self._memo[arg])
      case "GLOBAL":
        self._name(*arg.split(" ", 1))
      case "STACK_GLOBAL":
        name, module = stack.pop(), stack.pop()
        self._name(module, name)
      case "REDUCE":
        given, name = stack.pop(), stack.pop()
        if not isinstance(name, _Name) or not isinstance(given, tuple):
          raise WeightsError("refused: the pickle calls an unnamed object")
        make = _MADE[name]
        if make is None:
          raise WeightsError(f"refused: the pickle calls {'.'.join(name)}")
        stack.append(make(self, *given))
      case "BUILD":
        state = stack.pop()
        self._build(stack[-1], state)
      case _:
        raise WeightsError(
            f"refused: the pickle does {operation}, which neither an array nor"
            " a plain container needs"
        )

  def _to_mark(self) -> list[Any]:
    items, self._stack = self._stack, self._outer.pop()
    return items

  def _set(self, items: list[Any]) -> None:
    mapping = self._stack[-1]
    if not isinstance(mapping, dict) or len(items) % 2:
      raise ValueError("entries for an object that is not a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
      # Other keys could be made to take forever to hash.
      if not isinstance(key, str):
        raise WeightsError(f"refused: a key is a {type(key).__name__}")
      mapping[key] = value

  def _extend(self, items: list[Any]) -> None:
    if not isinstance(self._stack[-1], list):
      raise ValueError("items for an object that is not a list")
    self._stack[-1].extend(items)

  def _name(self, module: Any, name: Any) -> None:
    known = _Name(module, name)
    texts = isinstance(module, str) and isinstance(name, str)
    if not texts or known not in _MADE:
      what = printable(f"{module}.{name}") if texts else "no text"
      raise WeightsError(
          f"refused: the pickle asks for {what}, which is neither an array nor"
          " a plain container"
      )
    self._stack.append(known)

  def _build(self, made: Any, state: Any) -> None:
    """Sets the state of an array or a dtype, in NumPy's format."""
    if isinstance(made, _DType):
      # Fields and sizes have no place in a dtype that has a plain name.
      match state:
        case (3, order, None, None, None, -1 | 2, -1 | 2, int()):
          made.order = order
        case _:
          made.name += " with another state"
    elif isinstance(made, Array):
      if not isinstance(state, tuple) or len(state) != 5:
        raise WeightsError("refused: an array with an unexpected state")
      made.fill(*state[1:])
    else:
      kind = type(made).__name__
      raise WeightsError(f"refused: the pickle sets the state of a {kind}")

  def dtype(self, name: Any, *how: Any) -> _DType:
    if how not in ((), (False, True)):
      raise WeightsError("refused: a dtype with unexpected arguments")
    if name == _Name("ml_dtypes", "bfloat16"):
      name = "bfloat16"
    if not isinstance(name, str):
      raise WeightsError("refused: a dtype without a name")
    return _DType(name)

  def reconstruct(self, *_: Any) -> Array:
    return Array()  # Its state follows.

  def from_buffer(self, data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.fill(shape, dtype, order == "F", data)
    return array

  def scalar(self, dtype: Any, data: Any) -> Array:
    return self.from_buffer(data, dtype, (), "C")

  def encode(self, text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
      raise WeightsError("refused: bytes with an unexpected encoding")
    self._to_encode -= len(text)
    if self._to_encode < 0:
      raise WeightsError("refused: one string is encoded many times")
    return text.encode("latin1")

  def no_bytes(self) -> bytes:
    """How protocol 2 writes no bytes."""
    return b""

  def mapping(self, items: Any = None) -> dict[str, Any]:
    if not isinstance(items, dict | None):
      raise WeightsError("refused: a mapping with unexpected arguments")
    return {} if items is None else items


def _filled(
    shape: Any, dtype: Any, is_fortran: Any, data: Any
) -> np.ndarray | list[Any]:
  """An array of these bytes; of objects, the list of them."""
  if not isinstance(dtype, _DType):
    raise WeightsError("an array without a dtype")
  if (
      not isinstance(shape, tuple)
      or len(shape) > _MOST_AXES
      or not all(type(size) is int and 0 <= size < 2**63 for size in shape)
  ):
    raise WeightsError("an array with an invalid shape")
  if dtype.name == "O8" and isinstance(data, list):
    return data
  kind = dtype_of(dtype.name, dtype.order)
  if not isinstance(data, bytes | bytearray):
    raise WeightsError(f"an array of {kind} without bytes")
  size = math.prod(shape) * kind.itemsize
  if size != len(data):
    raise WeightsError(
        f"an array {list(shape)} of {kind} with {len(data):,} bytes"
    )
  order = "F" if is_fortran else "C"
  array = np.ndarray(shape, kind, data, order=order)
  if kind == np.bool_ and np.any(array.view(np.uint8) > 1):
    raise WeightsError("a bool array with values other than 0 and 1")
  return array


# What a pickle may name, and what is made when it calls that; None: it may not.
_MADE: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Machine.dtype,
    ("ml_dtypes", "bfloat16"): None,
    **{
        (f"{package}.{module}", name): made
        for package in ("numpy.core", "numpy._core")
        for module, name, made in (
            ("multiarray", "_reconstruct", _Machine.reconstruct),
            ("multiarray", "scalar", _Machine.scalar),
            ("numeric", "_frombuffer", _Machine.from_buffer),
        )
    },
    ("collections", "OrderedDict"): _Machine.mapping,
    **{
        (f"haiku._src.{module}", name): _Machine.mapping
        for module in ("data_structures", "base")
        for name in (
            "FlatMapping",
            "FlatMap",
            "frozendict",
            "to_immutable_dict",
        )
    },
    ("_codecs", "encode"): _Machine.encode,
    **{
        (module, "bytes"): _Machine.no_bytes
        for module in ("builtins", "__builtin__")
    },
}
