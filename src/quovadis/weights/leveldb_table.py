"""Read sorted tables in LevelDB's format, which TensorFlow uses for the ``.index`` files of checkpoints.

The footer refers to the index block, the index block refers to the data blocks, and a block is a list of entries whose
keys share a prefix with the previous key. Every block has a checksum. Compressed tables are not supported. The file is
not trusted: lengths beyond the end, endless varints, blocks that refer to each other, and unsorted keys raise
:class:`~quovadis.errors.WeightsError`.

References:
    LevelDB, ``doc/table_format.md``.
"""

from quovadis.errors import WeightsError
from quovadis.weights.crc32c import masked_crc32c

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression type, checksum


def read_table(data: bytes, source: str) -> dict[bytes, bytes]:
    """Read all entries of a table, sorted by key.

    Args:
        data: Content of the file.
        source: Name of the file, for error messages.

    Raises:
        WeightsError: If it is not such a table, is damaged, or is compressed.
    """
    if len(data) < _FOOTER_BYTES or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise WeightsError(f"{source} is not a TensorFlow checkpoint index: its footer has no magic number")
    footer = Cursor(data[-_FOOTER_BYTES:-8], f"{source}: footer")
    footer.varint(), footer.varint()  # the metaindex block, which TensorFlow leaves empty
    offset, size = footer.varint(), footer.varint()
    entries: dict[bytes, bytes] = {}
    blocks: set[int] = {offset}
    last = b""
    for _, handle in _block_entries(_block(data, offset, size, source), source):
        cursor = Cursor(handle, f"{source}: block handle")
        offset, size = cursor.varint(), cursor.varint()
        if offset in blocks:
            raise WeightsError(f"{source} is damaged: its table refers twice to the block at byte {offset}")
        blocks.add(offset)
        for key, value in _block_entries(_block(data, offset, size, source), source):
            if entries and key <= last:
                raise WeightsError(f"{source} is damaged: key {key[:80]!r} follows {last[:80]!r}; keys must be sorted")
            entries[key] = value
            last = key
    return entries


class Cursor:
    """Reader of a byte string that raises instead of reading past the end."""

    def __init__(self, data: bytes, source: str):
        self.data = data
        self.source = source
        self.position = 0

    @property
    def at_end(self) -> bool:
        """Whether all bytes have been read."""
        return self.position >= len(self.data)

    def varint(self) -> int:
        """Read an unsigned integer of at most 64 bits, with seven bits per byte."""
        value = 0
        for shift in range(0, 70, 7):
            if self.at_end:
                raise WeightsError(f"{self.source} is damaged: a number extends beyond the end")
            octet = self.data[self.position]
            self.position += 1
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                return value & (2**64 - 1)
        raise WeightsError(f"{self.source} is damaged: a number has no end")

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        if size > len(self.data) - self.position:
            raise WeightsError(
                f"{self.source} is damaged: expected {size} more bytes, found {len(self.data) - self.position}"
            )
        self.position += size
        return self.data[self.position - size : self.position]


def _block(data: bytes, offset: int, size: int, source: str) -> bytes:
    """Return the content of a block after verifying its checksum."""
    end = offset + size
    if end + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise WeightsError(
            f"{source} is damaged: a block of {size} bytes at byte {offset} exceeds its {len(data)} bytes"
        )
    if masked_crc32c(data[offset : end + 1]) != int.from_bytes(data[end + 1 : end + _TRAILER_BYTES], "little"):
        raise WeightsError(f"{source} is damaged: the checksum of the block at byte {offset} does not match")
    if data[end]:
        raise WeightsError(f"{source} is compressed (type {data[end]}); only uncompressed checkpoints are supported")
    return data[offset:end]


def _block_entries(block: bytes, source: str) -> list[tuple[bytes, bytes]]:
    """Return the keys and values of a block. The restart points at its end serve only binary search."""
    num_restarts = int.from_bytes(block[-4:], "little") if len(block) >= 4 else 0
    end = len(block) - 4 * (num_restarts + 1)
    if num_restarts < 1 or end < 0:
        raise WeightsError(f"{source} is damaged: a block of {len(block)} bytes with {num_restarts} restart points")
    cursor = Cursor(block[:end], f"{source}: block")
    entries: list[tuple[bytes, bytes]] = []
    key = b""
    key_bytes = 0
    while not cursor.at_end:
        shared, unshared, value_size = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key):
            raise WeightsError(f"{source} is damaged: a key shares {shared} bytes with a key of {len(key)} bytes")
        key = key[:shared] + cursor.take(unshared)
        # Shared prefixes could expand to far more than the size of the file. Real tables are far below this limit.
        key_bytes += len(key)
        if key_bytes > 8 * len(block):
            raise WeightsError(f"{source} is damaged: its keys expand to more than {8 * len(block)} bytes")
        entries.append((key, cursor.take(value_size)))
    return entries
