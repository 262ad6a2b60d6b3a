"""Read a pickle of nested dictionaries of NumPy arrays without running anything from it.

The unpickler knows three names, those that NumPy writes for an array, and replaces each by a class of this module, so
that not even NumPy's own constructors see what the file says. The opcodes are checked before it starts: a pickle that
asks for more memory than the file has bytes, or for anything but dictionaries and arrays, is refused.
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
    """Read the arrays of a pickle by their path of keys, joined by ``/``.

    Args:
        content: The whole pickle.
        source: The file, for messages.

    Returns:
        Read-only float32 arrays that share the memory of the unpickled bytes.

    Raises:
        WeightsError: It is damaged, or holds anything but dictionaries of float32 arrays.

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
    except Exception as error:  # the unpickler raises many kinds for damaged bytes
        raise WeightsError(f"{source} cannot be read as arrays: the pickle is damaged ({error})") from error
    if unpickler.num_arrays != len(arrays):
        raise WeightsError(
            f"{source} cannot be read as arrays: it holds {unpickler.num_arrays} arrays under {len(arrays)} names; "
            "a tensor is there twice"
        )
    return arrays


def _check_opcodes(content: bytes) -> None:
    last = 0
    for number, (opcode, argument, position) in enumerate(pickletools.genops(io.BytesIO(content))):
        last = position or 0
        if opcode.name not in _OPCODES:
            raise WeightsError(f"the opcode {opcode.name} is not needed for arrays and is not allowed")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > number:  # the memo grows to this index
            raise WeightsError(f"the memo index {argument} is beyond the {number} operations before it")
        if opcode.name == "FRAME" and int(argument or 0) > len(content):
            raise WeightsError(f"a frame of {argument} bytes is longer than the file")
    if last != len(content) - 1:
        raise WeightsError("there are bytes after the end of the pickle")


class _DType:
    """Stands for ``numpy.dtype``: float32, little-endian, and nothing else."""

    def __init__(self, code: object, *_: object):
        if code not in ("f4", "<f4"):
            raise WeightsError(f"an array has the type {str(code)[:20]!r}; expected 'f4' (float32)")

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "="):
            raise WeightsError("an array is not little-endian float32")


class _Array:
    """Stands for ``numpy.ndarray``; gets its values when the unpickler builds it."""

    values: NDArray[np.float32] | None = None

    def __init__(self, owner: "_Unpickler"):
        self.owner = owner

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or self.values is not None:
            raise WeightsError("an array has no shape, type and values, or has them twice")
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise WeightsError("an array is not plain float32")
        sides = shape if isinstance(shape, tuple) else ()
        if not isinstance(shape, tuple) or len(sides) > 32 or any(type(n) is not int or n < 0 for n in sides):
            raise WeightsError(f"an array has the shape {str(shape)[:60]}")
        if 4 * math.prod(sides) != len(data):
            raise WeightsError(f"an array of the shape {str(shape)[:60]} has {len(data)} bytes")
        self.values = np.frombuffer(data, "<f4").reshape(sides, order="F" if fortran else "C")
        self.owner.num_arrays += 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.num_arrays = 0

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: _Array(self)
        if (module, name) == ("numpy", "ndarray"):
            return None  # an argument of _reconstruct, not called
        if (module, name) == ("numpy", "dtype"):
            return _DType
        raise WeightsError(f"it needs {module[:60]}.{name[:60]}; quovadis reads arrays only and runs no code")


def _leaves(node: object, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if id(node) in seen:
        raise WeightsError(f"{'/'.join(path)} is there twice, under another name")
    seen.add(id(node))
    if isinstance(node, _Array) and node.values is not None and path:
        yield "/".join(path), node.values
        return
    if not isinstance(node, dict) or len(path) >= _MAX_DEPTH:
        raise WeightsError(f"{'/'.join(path)[:200] or 'the top'} is not a dictionary of arrays")
    for key, value in node.items():
        if not isinstance(key, str):
            raise WeightsError(f"a key is a {type(key).__name__}; expected names")
        yield from _leaves(value, (*path, key), seen)
