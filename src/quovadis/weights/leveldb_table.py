"""The sorted table that TensorFlow's ``.index`` files are: LevelDB's format, read-only, without compression.

A footer names the index block, the index block names the data blocks, and a block is a list of entries whose keys
share a prefix with the key before. Every block carries a checksum. Everything here distrusts the file: a length that
reaches outside, a varint without end, a block that is its own index, or keys out of order raise
:class:`~quovadis.errors.WeightsError`.

Source: LevelDB, ``doc/table_format.md``.
"""

from quovadis.errors import WeightsError
from quovadis.weights.crc32c import masked_crc32c

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression type, checksum


def read_table(data: bytes, source: str) -> dict[bytes, bytes]:
    """All entries of a table, in its order.

    Args:
        data: the whole file.
        source: the file's name, for messages.

    Raises:
        WeightsError: it is not such a table, it is damaged, or it is compressed.
    """
    if len(data) < _FOOTER_BYTES or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise WeightsError(f"{source} is not a TensorFlow checkpoint index: it does not end with the table's magic")
    footer = Cursor(data[-_FOOTER_BYTES:-8], f"{source}: footer")
    footer.varint(), footer.varint()  # the metaindex block: TensorFlow leaves it empty
    offset, size = footer.varint(), footer.varint()
    entries: dict[bytes, bytes] = {}
    blocks: set[int] = {offset}
    last = b""
    for _, handle in _block_entries(_block(data, offset, size, source), source):
        cursor = Cursor(handle, f"{source}: handle of a block")
        offset, size = cursor.varint(), cursor.varint()
        if offset in blocks:
            raise WeightsError(f"{source} is damaged: its table comes back to the block at byte {offset}")
        blocks.add(offset)
        for key, value in _block_entries(_block(data, offset, size, source), source):
            if entries and key <= last:
                raise WeightsError(f"{source} is damaged: key {key[:80]!r} stands after {last[:80]!r}")
            entries[key] = value
            last = key
    return entries


class Cursor:
    """A place in bytes that only moves forward and never past the end."""

    def __init__(self, data: bytes, where: str):
        self.data = data
        self.where = where
        self.position = 0

    @property
    def at_end(self) -> bool:
        """Nothing is left."""
        return self.position >= len(self.data)

    def varint(self) -> int:
        """An unsigned integer of at most 64 bits, seven in a byte."""
        value = 0
        for shift in range(0, 70, 7):
            if self.at_end:
                raise WeightsError(f"{self.where} is damaged: a number runs over the end")
            octet = self.data[self.position]
            self.position += 1
            value |= (octet & 0x7F) << shift
            if octet < 0x80:
                return value & (2**64 - 1)
        raise WeightsError(f"{self.where} is damaged: a number has no end")

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self.data) - self.position:
            raise WeightsError(
                f"{self.where} is damaged: {size} bytes wanted, {len(self.data) - self.position} are left"
            )
        self.position += size
        return self.data[self.position - size : self.position]


def _block(data: bytes, offset: int, size: int, source: str) -> bytes:
    """The content of one block, its checksum checked."""
    end = offset + size
    if end + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise WeightsError(f"{source} is damaged: a block of {size} bytes at {offset} in a file of {len(data)}")
    if masked_crc32c(data[offset : end + 1]) != int.from_bytes(data[end + 1 : end + _TRAILER_BYTES], "little"):
        raise WeightsError(f"{source} is damaged: the checksum of the block at byte {offset} does not match")
    if data[end]:
        raise WeightsError(f"{source} is compressed (type {data[end]}); TensorFlow writes checkpoints uncompressed")
    return data[offset:end]


def _block_entries(block: bytes, source: str) -> list[tuple[bytes, bytes]]:
    """Keys and values; the restart points at the end are only there for searching."""
    num_restarts = int.from_bytes(block[-4:], "little") if len(block) >= 4 else 0
    end = len(block) - 4 * (num_restarts + 1)
    if num_restarts < 1 or end < 0:
        raise WeightsError(f"{source} is damaged: a block of {len(block)} bytes with {num_restarts} restart points")
    cursor = Cursor(block[:end], f"{source}: block")
    entries: list[tuple[bytes, bytes]] = []
    key = b""
    key_bytes = 0
    while not cursor.at_end:
        shared, own, value_size = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key):
            raise WeightsError(f"{source} is damaged: a key takes {shared} bytes from one of {len(key)}")
        key = key[:shared] + cursor.take(own)
        # Keys that share prefixes could unfold to far more than the file; no real index comes near this.
        key_bytes += len(key)
        if key_bytes > 8 * len(block):
            raise WeightsError(f"{source} is damaged: its keys unfold to more than {8 * len(block)} bytes")
        entries.append((key, cursor.take(value_size)))
    return entries
