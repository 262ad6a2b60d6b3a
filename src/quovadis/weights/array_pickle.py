"""Read a pickle of nested dictionaries of float32 NumPy arrays without executing code from it.

The unpickler resolves only the three names that NumPy writes for an array, and replaces each by a class of this module,
so that no constructor of NumPy is called with values from the file. The opcodes are checked first: a pickle that would
allocate more memory than the size of the file, or that contains anything but dictionaries and arrays, is refused.

References:
    Pickle format: Python, ``Lib/pickletools.py``. State of an array: NumPy, ``ndarray.__reduce__``.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quovadis.errors import WeightsError

_OPCODES = frozenset(
    name
    for line in (
        "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1",
        "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8",
        "EMPTY_DICT DICT SETITEM SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3",
        "MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD",
    )
    for name in line.split()
)
_MAX_DEPTH = 16


def read_arrays(content: bytes, source: str) -> dict[str, NDArray[np.float32]]:
    """Read the arrays of a pickle.

    Args:
        content: The pickle.
        source: Name of the file, for error messages.

    Returns:
        Read-only float32 arrays by their keys, joined by ``/``.

    Raises:
        WeightsError: If the pickle is damaged, or contains anything but dictionaries of float32 arrays.

    Example:
        >>> import pickle
        >>> arrays = read_arrays(pickle.dumps({"a": {"w": np.ones((2, 3), np.float32)}}), "example")
        >>> arrays["a/w"].shape
        (2, 3)
    """
    try:
        _check_opcodes(content)
        unpickler = _Unpickler(io.BytesIO(content))
        tree = unpickler.load()
        arrays = dict(_leaves(tree, (), set()))
    except WeightsError as error:
        raise WeightsError(f"{source} cannot be read as arrays: {error}") from error
    except Exception as error:  # the unpickler raises many types for damaged files
        raise WeightsError(f"{source} cannot be read as arrays: the pickle is damaged ({error})") from error
    if unpickler.num_arrays != len(arrays):
        raise WeightsError(
            f"{source} cannot be read as arrays: it contains {unpickler.num_arrays} arrays under {len(arrays)} names; "
            "the names must be unique"
        )
    return arrays


def _check_opcodes(content: bytes) -> None:
    last = 0
    for index, (opcode, argument, position) in enumerate(pickletools.genops(io.BytesIO(content))):
        last = position or 0
        if opcode.name not in _OPCODES:
            raise WeightsError(f"the opcode {opcode.name} is not allowed")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > index:  # allocates a memo of this size
            raise WeightsError(f"the memo index {argument} exceeds the number of preceding operations, {index}")
        if opcode.name == "FRAME" and int(argument or 0) > len(content):
            raise WeightsError(f"a frame of {argument} bytes is longer than the file")
    if last != len(content) - 1:
        raise WeightsError("there are bytes after the end of the pickle")


class _DType:
    """Replaces ``numpy.dtype``; accepts only little-endian float32."""

    def __init__(self, code: object, *_: object):
        if code not in ("f4", "<f4"):
            raise WeightsError(f"an array has the dtype {str(code)[:20]!r}; expected 'f4' (float32)")

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "="):
            raise WeightsError("an array is not little-endian float32")


class _Array:
    """Replaces ``numpy.ndarray``."""

    values: NDArray[np.float32] | None = None

    def __init__(self, owner: "_Unpickler"):
        self.owner = owner

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or self.values is not None:
            raise WeightsError("the state of an array is invalid or occurs twice")
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise WeightsError("an array is not plain float32")
        if not isinstance(shape, tuple) or len(shape) > 32 or any(type(n) is not int or n < 0 for n in shape):
            raise WeightsError(f"an array has the invalid shape {str(shape)[:60]}")
        if 4 * math.prod(shape) != len(data):
            raise WeightsError(f"an array of the shape {str(shape)[:60]} has {len(data)} bytes")
        self.values = np.frombuffer(data, "<f4").reshape(shape, order="F" if fortran else "C")
        self.owner.num_arrays += 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.num_arrays = 0

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: _Array(self)
        if (module, name) == ("numpy", "ndarray"):
            return None  # an argument of _reconstruct that is not called
        if (module, name) == ("numpy", "dtype"):
            return _DType
        raise WeightsError(f"it requires {module[:60]}.{name[:60]}; only arrays are supported, and no code is executed")


def _leaves(node: object, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if id(node) in seen:
        raise WeightsError(f"{'/'.join(path)} occurs twice")
    seen.add(id(node))
    if isinstance(node, _Array) and node.values is not None and path:
        yield "/".join(path), node.values
        return
    if not isinstance(node, dict) or len(path) >= _MAX_DEPTH:
        raise WeightsError(f"{'/'.join(path)[:200] or 'the top level'} is not a dictionary of arrays")
    for key, value in node.items():
        if not isinstance(key, str):
            raise WeightsError(f"a key is a {type(key).__name__}; expected a string")
        yield from _leaves(value, (*path, key), seen)
