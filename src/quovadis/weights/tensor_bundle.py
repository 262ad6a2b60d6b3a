"""Read TensorFlow checkpoints (an ``.index`` table and its ``.data`` shards) without TensorFlow.

The index contains a header under the empty key, and a ``BundleEntryProto`` for each tensor: dtype, shape, shard,
offset, size and checksum. The shards contain the raw bytes and are memory-mapped.

References:
    TensorFlow, ``core/protobuf/tensor_bundle.proto`` and ``core/framework/tensor_shape.proto``.
"""

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quovadis.errors import WeightsError
from quovadis.weights.crc32c import masked_crc32c
from quovadis.weights.leveldb_table import Cursor, read_table

# Values of TensorFlow's DataType enum with fixed-size elements. bfloat16 is missing because numpy does not support it.
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 10: "|b1", 17: "<u2", 19: "<f2"}
_DTYPES |= {22: "<u4", 23: "<u8"}
_MAX_INDEX_BYTES = 2**26


@dataclass(frozen=True)
class Entry:
    """Description of a tensor in the index."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    shard: int
    offset: int
    """Position of the first byte in the shard."""
    size: int
    """Number of bytes."""
    masked_crc32c: int


class TensorBundle:
    """TensorFlow checkpoint whose tensors are read on demand.

    Args:
        path: The prefix (``.../model.ckpt``), the ``.index`` file, or one of the ``.data-?????-of-?????`` files.

    Raises:
        WeightsError: If a file is missing, too short, damaged, or not such a checkpoint.
    """

    def __init__(self, path: str | PathLike[str]):
        self.prefix = bundle_prefix(path)
        index = _with_suffix(self.prefix, ".index")
        try:
            if index.stat().st_size > _MAX_INDEX_BYTES:
                raise WeightsError(f"{index} has {index.stat().st_size} bytes; expected at most {_MAX_INDEX_BYTES}")
            content = index.read_bytes()
        except OSError as error:
            raise WeightsError(f"cannot read {index}: {error.strerror or error}") from error
        table = read_table(content, index.name)
        self.num_shards = _read_header(table.pop(b"", b""), index.name)
        self.entries: dict[str, Entry] = {
            key.decode(errors="backslashreplace"): _read_entry(value, f"{index.name}: {key[:80]!r}")
            for key, value in table.items()
        }
        """Descriptions by name, in the order of the index."""
        self._shards: dict[int, mmap.mmap | bytes] = {}
        for name, entry in self.entries.items():
            self._check(name, entry)

    def tensor(self, name: str) -> NDArray[np.generic]:
        """Return a tensor as a read-only view of the mapped file, after verifying its checksum."""
        entry = self.entries[name]
        if not entry.size:
            raise WeightsError(f"{self.prefix.name}: {name} is empty")
        values: NDArray[np.generic] = np.frombuffer(
            self._shards[entry.shard], entry.dtype, math.prod(entry.shape), entry.offset
        )
        found = masked_crc32c(values)
        if found != entry.masked_crc32c:
            raise WeightsError(
                f"{self._shard_path(entry.shard).name} is damaged: the checksum of {name} is {found:#010x}; "
                f"expected {entry.masked_crc32c:#010x}. Download the file again"
            )
        return values.reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def release(self, name: str) -> None:
        """Allow the operating system to remove the bytes of a tensor from memory."""
        entry = self.entries[name]
        shard = self._shards[entry.shard]
        if isinstance(shard, mmap.mmap) and hasattr(shard, "madvise"):
            start = -(-entry.offset // mmap.PAGESIZE) * mmap.PAGESIZE  # the previous page may contain another tensor
            if entry.offset + entry.size > start:
                shard.madvise(mmap.MADV_DONTNEED, start, entry.offset + entry.size - start)

    def _shard_path(self, shard: int) -> Path:
        return _with_suffix(self.prefix, f".data-{shard:05d}-of-{self.num_shards:05d}")

    def _check(self, name: str, entry: Entry) -> None:
        """Raise unless the entry is within its shard, and its size matches its shape."""
        if entry.shard >= self.num_shards:
            raise WeightsError(f"{name} has shard {entry.shard}, but the checkpoint has {self.num_shards} shards")
        if entry.shard not in self._shards:
            self._shards[entry.shard] = _map(self._shard_path(entry.shard))
        available = len(self._shards[entry.shard])
        if entry.offset + entry.size > available:
            raise WeightsError(
                f"{self._shard_path(entry.shard).name} has {available} bytes; {name} has {entry.size} bytes at "
                f"{entry.offset}: the file is truncated or belongs to another index"
            )
        if math.prod(entry.shape) * entry.dtype.itemsize != entry.size:
            raise WeightsError(f"{name} has {entry.size} bytes, but its shape is {entry.shape} of {entry.dtype}")


def bundle_prefix(path: str | PathLike[str]) -> Path:
    """Return the prefix of a checkpoint, given the prefix or any of its files.

    >>> bundle_prefix("run/model.ckpt.data-00000-of-00001").name, bundle_prefix("run/model.ckpt.index").name
    ('model.ckpt', 'model.ckpt')
    """
    path = Path(path)
    name = path.name.removesuffix(".index")
    stem, dot, rest = name.rpartition(".data-")
    if dot and rest.replace("-of-", "").isdigit():
        name = stem
    return path.with_name(name) if name else path


def _with_suffix(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _map(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return b""  # an empty file cannot be mapped
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise WeightsError(
            f"cannot read {path}: {error.strerror or error}; a checkpoint consists of its .index and all of its "
            ".data files in one folder"
        ) from error


Field = int | bytes


def _fields(message: bytes, source: str) -> Iterator[tuple[int, Field]]:
    """Yield the fields of a protocol buffer message: number, and integer or bytes."""
    cursor = Cursor(message, source)
    while not cursor.at_end:
        tag = cursor.varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, cursor.varint()
        elif kind == 1:
            yield tag >> 3, int.from_bytes(cursor.take(8), "little")
        elif kind == 2:
            yield tag >> 3, cursor.take(cursor.varint())
        elif kind == 5:
            yield tag >> 3, int.from_bytes(cursor.take(4), "little")
        else:
            raise WeightsError(f"{source} is damaged: a field of unknown kind {kind}")


def _number(value: Field, source: str) -> int:
    if isinstance(value, bytes):
        raise WeightsError(f"{source} is damaged: found bytes; expected a number")
    return value


def _message(value: Field, source: str) -> bytes:
    if isinstance(value, int):
        raise WeightsError(f"{source} is damaged: found a number; expected a message")
    return value


def _read_header(message: bytes, source: str) -> int:
    """Read the number of shards from a BundleHeaderProto."""
    num_shards = 0
    for field, value in _fields(message, f"{source}: header"):
        if field == 1:
            num_shards = _number(value, source)
        elif field == 2 and value != 0:
            raise WeightsError(f"{source}: big-endian checkpoints are not supported")
    if not 1 <= num_shards <= 99999:
        raise WeightsError(f"{source} is damaged or not a checkpoint: it has {num_shards} shards")
    return num_shards


def _read_entry(message: bytes, source: str) -> Entry:
    """Read a BundleEntryProto."""
    dtype = shard = offset = size = checksum = 0
    shape: tuple[int, ...] = ()
    for field, value in _fields(message, source):
        match field:
            case 1:
                dtype = _number(value, source)
            case 2:
                shape = _read_shape(_message(value, source), source)
            case 3:
                shard = _number(value, source)
            case 4:
                offset = _number(value, source)
            case 5:
                size = _number(value, source)
            case 6:
                checksum = _number(value, source)
            case 7:
                raise WeightsError(f"{source}: a tensor saved in slices is not supported")
    if dtype not in _DTYPES:
        raise WeightsError(f"{source}: tensors of TensorFlow's DataType {dtype} are not supported")
    return Entry(np.dtype(_DTYPES[dtype]), shape, shard, offset, size, checksum)


def _read_shape(message: bytes, source: str) -> tuple[int, ...]:
    """Read a TensorShapeProto: repeated dimensions, each with a size."""
    shape: list[int] = []
    for field, value in _fields(message, source):
        if field == 3 and value:
            raise WeightsError(f"{source}: a tensor of unknown rank")
        if field == 2:
            sizes = [_number(v, source) for number, v in _fields(_message(value, source), source) if number == 1]
            shape.append(sizes[-1] if sizes else 0)
    if len(shape) > 32 or any(size >= 2**63 for size in shape):
        raise WeightsError(f"{source} is damaged: it has the shape {shape[:8]}")
    return tuple(shape)
