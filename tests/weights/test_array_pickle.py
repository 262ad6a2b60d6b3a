"""Tests of the limits of the array reader, with handwritten pickles."""

import pickle

import numpy as np
import pytest

from quovadis.errors import WeightsError
from quovadis.weights.array_pickle import read_arrays

EMPTY = b"}."  # an empty dictionary


def frame(size: int) -> bytes:
    return b"\x95" + size.to_bytes(8, "little")


def nested(depth: int) -> bytes:
    tree: object = np.ones(1, np.float32)
    for _ in range(depth):
        tree = {"a": tree}
    return pickle.dumps(tree)


def test_frames_longer_than_the_file_are_refused() -> None:
    assert read_arrays(b"\x80\x04" + frame(2) + EMPTY, "t") == {}
    with pytest.raises(WeightsError, match="a frame of 1099511627776 bytes is longer than the file"):
        read_arrays(b"\x80\x04" + frame(2**40) + EMPTY, "t")


def test_memo_indices_beyond_the_number_of_operations_are_refused() -> None:
    assert read_arrays(b"\x80\x04}r\x02\0\0\0.", "t") == {}
    with pytest.raises(WeightsError, match="the memo index 3 exceeds the number of preceding operations, 2"):
        read_arrays(b"\x80\x04}r\x03\0\0\0.", "t")
    with pytest.raises(WeightsError, match="the memo index 255 exceeds"):
        read_arrays(b"\x80\x04}q\xff.", "t")


def test_dictionaries_nest_at_most_sixteen_levels() -> None:
    (name,) = read_arrays(nested(16), "t")
    assert name == "/".join("a" * 16)
    with pytest.raises(WeightsError, match="is not a dictionary of arrays"):
        read_arrays(nested(17), "t")


STATE = (1, (1,), np.dtype("f4"), False, b"1234")


def array_like(state: object) -> bytes:
    """Pickle a dictionary with an array of any state."""

    class ArrayLike:
        def __reduce__(self) -> tuple[object, ...]:
            reconstruct, arguments, _ = np.ones(1, np.float32).__reduce__()  # type: ignore[misc]
            return reconstruct, arguments, state

    return pickle.dumps({"a": ArrayLike()})


def test_state_of_an_array_is_a_tuple_of_five() -> None:
    assert read_arrays(array_like(STATE), "t")["a"].tobytes() == b"1234"
    for state in (STATE[:4], {}):
        with pytest.raises(WeightsError, match="the state of an array is invalid or occurs twice"):
            read_arrays(array_like(state), "t")


def test_arrays_have_at_most_32_axes() -> None:
    assert read_arrays(array_like((1, (1,) * 32, *STATE[2:])), "t")["a"].ndim == 32
    with pytest.raises(WeightsError, match="an array has the invalid shape"):
        read_arrays(array_like((1, (1,) * 33, *STATE[2:])), "t")


def test_an_array_without_a_key_is_refused() -> None:
    with pytest.raises(WeightsError, match="the top level is not a dictionary of arrays"):
        read_arrays(pickle.dumps(np.ones(1, np.float32)), "t")
