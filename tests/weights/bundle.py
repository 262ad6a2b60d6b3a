"""Writer of TensorFlow checkpoints for tests of the reader without TensorFlow and the official files.

The layout is that of TensorFlow's Saver: keys sorted by bytes, shared prefixes with restart points every 16 entries, an
empty metaindex block, and masked checksums of every block and tensor. ``test_tensor_bundle.py`` verifies that the files
are equal to those of TensorFlow.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Checksum = Callable[[bytes], int]
MAGIC = 0xDB4775248B80FB57
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "float16": 19}


def crc32c_by_definition(data: bytes) -> int:
    """Slow reference implementation with a table of 256 entries."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def masked(data: bytes, crc32c: Checksum = crc32c_by_definition) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number: int, value: int | bytes) -> bytes:
    """Encode a protocol buffer field; zeros are omitted, as in proto3."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def fixed32(number: int, value: int) -> bytes:
    return varint(number << 3 | 5) + value.to_bytes(4, "little")


def entry_message(dtype: int, shape: tuple[int, ...], shard: int, offset: int, size: int, crc: int) -> bytes:
    dims = b"".join(field(2, field(1, side)) for side in shape)
    return field(1, dtype) + field(2, dims) + field(3, shard) + field(4, offset) + field(5, size) + fixed32(6, crc)


def header_message(num_shards: int) -> bytes:
    return field(1, num_shards) + field(3, field(1, 1))


def block(entries: list[tuple[bytes, bytes]], restart_every: int = 16) -> bytes:
    out, restarts, last = bytearray(), [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    for restart in restarts or [0]:
        out += restart.to_bytes(4, "little")
    return bytes(out + max(len(restarts), 1).to_bytes(4, "little"))


def with_trailer(content: bytes, kind: int = 0) -> bytes:
    body = content + bytes([kind])
    return body + masked(body).to_bytes(4, "little")


def table(entries: list[tuple[bytes, bytes]], block_bytes: int = 2**18) -> bytes:
    """Write a table of sorted entries, in blocks of at least ``block_bytes``."""
    out, size = bytearray(), 0
    handles: list[tuple[bytes, bytes]] = []
    pending: list[tuple[bytes, bytes]] = []

    def finish() -> None:
        content = block(pending)
        # The key of a block in the index is at least its last key and less than the first key of the next block.
        handles.append((pending[-1][0] + b"\xff", varint(len(out)) + varint(len(content))))
        out.extend(with_trailer(content))

    for key, value in entries:
        pending.append((key, value))
        size += len(key) + len(value)
        if size >= block_bytes:
            finish()
            pending, size = [], 0
    if pending:
        finish()
    meta = block([])
    meta_handle = varint(len(out)) + varint(len(meta))
    out += with_trailer(meta)
    index = block(handles, restart_every=1)
    index_handle = varint(len(out)) + varint(len(index))
    out += with_trailer(index)
    return bytes(out + (meta_handle + index_handle).ljust(40, b"\0") + MAGIC.to_bytes(8, "little"))


def write_bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    num_shards: int = 1,
    block_bytes: int = 2**18,
    crc32c: Checksum = crc32c_by_definition,
) -> Path:
    """Write ``prefix.index`` and its data files, distribute tensors over the shards, and return the prefix."""
    shards = [bytearray() for _ in range(num_shards)]
    entries = [(b"", header_message(num_shards))]
    for number, name in enumerate(sorted(tensors, key=str.encode)):
        values, shard = tensors[name], number % num_shards
        data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        crc = masked(data, crc32c)
        message = entry_message(DTYPES[values.dtype.name], values.shape, shard, len(shards[shard]), len(data), crc)
        entries.append((name.encode(), message))
        shards[shard] += data
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(prefix.name + ".index").write_bytes(table(entries, block_bytes))
    for shard, content in enumerate(shards):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{num_shards:05d}").write_bytes(content)
    return prefix


def official_names(state: Mapping[str, np.ndarray], *, prefix: str, kinetics600: bool = False) -> dict[str, np.ndarray]:
    """Convert a state dict to the official names and shapes, independently of the source code.

    With ``kinetics600`` as that one checkpoint has it: batch norm as [1, 1, 1, 1, C], and Momentum beside every trained
    tensor.
    """
    out: dict[str, np.ndarray] = {}
    for name, values in state.items():
        parts = name.removeprefix("trunk.").split(".")
        if parts[0] == "head":
            parts = ["Logits", "Conv3d_0c_1x1", "conv_3d", {"weight": "w", "bias": "b"}[parts[1]]]
        else:
            parts[-2:] = {
                "conv.weight": ["conv_3d", "w"],
                "batch_norm.bias": ["batch_norm", "beta"],
                "batch_norm.running_mean": ["batch_norm", "moving_mean"],
                "batch_norm.running_var": ["batch_norm", "moving_variance"],
            }[".".join(parts[-2:])]
        theirs = "/".join(parts).replace("Mixed_5b/Branch_2/Conv3d_0b_3x3", "Mixed_5b/Branch_2/Conv3d_0a_3x3")
        if values.ndim == 5:
            values = np.moveaxis(values, (0, 1), (4, 3))
        elif kinetics600 and "batch_norm" in theirs:
            values = values.reshape(1, 1, 1, 1, -1)
        out[prefix + theirs] = values
        if kinetics600 and "moving" not in theirs:
            out[prefix + theirs + "/Momentum"] = np.full_like(values, 123.25)
    return out
