"""Tests of the checkpoint reader with the writer of the tests, and of the writer with TensorFlow's files."""

import json
import lzma
import mmap
from pathlib import Path

import numpy as np
import pytest

from quovadis.errors import WeightsError
from quovadis.weights.crc32c import crc32c
from quovadis.weights.leveldb_table import read_table
from quovadis.weights.tensor_bundle import TensorBundle, bundle_prefix
from tests.weights.bundle import (
    block,
    entry_message,
    field,
    fixed32,
    header_message,
    masked,
    table,
    varint,
    with_trailer,
    write_bundle,
)

CHECKPOINTS = ("rgb_imagenet", "rgb_scratch", "rgb_scratch_kin600", "flow_imagenet", "flow_scratch")


def some_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tensors = {f"net/layer_{i:03d}/w": rng.normal(size=(3, i % 7 + 1)).astype(np.float32) for i in range(60)}
    return tensors | {
        "net/scalar": np.array(7, np.int64),
        "net/bytes": rng.integers(0, 255, 1000, dtype=np.uint8),
        "net/half": rng.normal(size=(2, 2)).astype(np.float16),
        "net/doubles": rng.normal(size=(1, 1, 5)),
    }


@pytest.mark.parametrize(("num_shards", "block_bytes"), [(1, 2**18), (1, 200), (3, 2**18), (5, 64)])
def test_reading_returns_the_written_tensors(tmp_path: Path, num_shards: int, block_bytes: int) -> None:
    tensors = some_tensors()
    prefix = write_bundle(tmp_path / "model.ckpt", tensors, num_shards=num_shards, block_bytes=block_bytes)
    bundle = TensorBundle(prefix)
    assert list(bundle) == sorted(tensors)
    for name, values in tensors.items():
        found = bundle.tensor(name)
        assert found.dtype == values.dtype
        assert found.shape == values.shape
        np.testing.assert_array_equal(found, values)
        bundle.release(name)
        np.testing.assert_array_equal(bundle.tensor(name), values)


@pytest.mark.parametrize("name", ["model.ckpt", "model.ckpt.index", "model.ckpt.data-00001-of-00002"])
def test_any_file_of_a_checkpoint_can_be_given(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "model.ckpt", some_tensors(), num_shards=2)
    assert bundle_prefix(tmp_path / name) == tmp_path / "model.ckpt"
    assert len(TensorBundle(tmp_path / name)) == 64


def test_a_damaged_tensor_is_named(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "m", some_tensors())
    entry = TensorBundle(prefix).entries["net/layer_020/w"]
    data = tmp_path / "m.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[entry.offset + 5] ^= 1
    data.write_bytes(content)
    bundle = TensorBundle(prefix)
    bundle.tensor("net/layer_021/w")
    with pytest.raises(WeightsError, match="net/layer_020/w"):
        bundle.tensor("net/layer_020/w")


def test_a_missing_or_short_shard_is_named(tmp_path: Path) -> None:
    prefix = write_bundle(tmp_path / "m", some_tensors(), num_shards=2)
    shard = tmp_path / "m.data-00001-of-00002"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=r"m.data-00001-of-00002 has .* truncated"):
        TensorBundle(prefix)
    shard.unlink()
    with pytest.raises(WeightsError, match=r"all of its .data files"):
        TensorBundle(prefix)


def one_entry(tmp_path: Path, message: bytes, shards: int = 1, data: bytes = bytes(16)) -> Path:
    (tmp_path / "m.index").write_bytes(table([(b"", header_message(shards)), (b"w", message)]))
    (tmp_path / "m.data-00000-of-00001").write_bytes(data)
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (entry_message(1, (4,), 0, 2**62, 16, 0), "has 16 bytes at"),
        (entry_message(1, (2**40, 2**40), 0, 0, 16, 0), "its shape is"),
        (entry_message(1, (4,), 0, 0, 2**63, 0), "truncated"),
        (entry_message(1, (4,), 7, 0, 16, 0), "has shard 7, but the checkpoint has 1 shards"),
        (entry_message(1, (2**64 - 1,), 0, 0, 16, 0), "it has the shape"),
        (entry_message(14, (8,), 0, 0, 16, 0), "DataType 14"),
        (entry_message(1, (0, 2**60), 0, 0, 0, 0), "empty"),
        (entry_message(1, (4,), 0, 0, 16, 0) + b"\x3a\x00", "slices"),
        (b"\xff" * 11, "no end"),
        (b"\x12\x7f", "expected 127 more bytes, found 0"),
    ],
)
def test_invalid_entries_are_refused_before_allocation(tmp_path: Path, message: bytes, words: str) -> None:
    prefix = one_entry(tmp_path, message)
    with pytest.raises(WeightsError, match=words):
        TensorBundle(prefix).tensor("w")


# DataType in TensorFlow's types.proto.
TYPE_NUMBERS = (1, 2, 3, 4, 5, 6, 9, 10, 17, 19, 22, 23)
TYPE_NAMES = ("<f4", "<f8", "<i4", "u1", "<i2", "i1", "<i8", "?", "<u2", "<f2", "<u4", "<u8")


@pytest.mark.parametrize(("number", "dtype"), list(zip(TYPE_NUMBERS, TYPE_NAMES, strict=True)))
def test_dtypes_match_the_data_types_of_tensorflow(tmp_path: Path, number: int, dtype: str) -> None:
    values = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    data = values.tobytes()
    prefix = one_entry(tmp_path, entry_message(number, (3, 2), 0, 0, len(data), masked(data)), data=data)
    found = TensorBundle(prefix).tensor("w")
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("number", [0, 7, 8, 11, 14, 18, 20, 21, 24])
def test_unsupported_data_types_are_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(WeightsError, match=f"DataType {number} are not supported"):
        TensorBundle(one_entry(tmp_path, entry_message(number, (4,), 0, 0, 16, 0)))


def dims(*sides: int) -> bytes:
    return b"".join(field(2, field(1, side)) for side in sides)


def test_unknown_fields_are_skipped(tmp_path: Path) -> None:
    """All wire types of protocol buffers: varint, 8 bytes, length-delimited, 4 bytes."""
    data = np.arange(4, dtype="<f4").tobytes()
    new = varint(99 << 3) + varint(300) + varint(98 << 3 | 1) + b"12345678" + field(97, b"new") + fixed32(96, 5)
    message = new + entry_message(1, (4,), 0, 0, 16, masked(data)) + new
    assert TensorBundle(one_entry(tmp_path, message, data=data)).tensor("w").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (field(1, 1) + varint(99 << 3 | 3), "a field of unknown kind 3"),
        (field(1, b"1"), "found bytes; expected a number"),
        (field(1, 1) + field(2, 4), "found a number; expected a message"),
        (field(1, 1) + field(2, field(3, 1)), "a tensor of unknown rank"),
        (field(1, 1) + field(2, dims(*[1] * 33)) + field(5, 4), "it has the shape"),
        (field(1, 1) + field(2, dims(2**63)) + field(5, 4), "it has the shape"),
    ],
)
def test_invalid_messages_are_refused(tmp_path: Path, message: bytes, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        TensorBundle(one_entry(tmp_path, message))


def test_a_shape_may_have_32_axes(tmp_path: Path) -> None:
    data = bytes(16)
    message = entry_message(1, (1,) * 31 + (4,), 0, 0, 16, masked(data))
    assert TensorBundle(one_entry(tmp_path, message)).tensor("w").shape == (1,) * 31 + (4,)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (field(1, 1) + field(2, 1), "big-endian"),
        (b"", "it has 0 shards"),
        (field(1, 100_000), "it has 100000 shards"),
    ],
)
def test_invalid_headers_are_refused(tmp_path: Path, header: bytes, words: str) -> None:
    (tmp_path / "m.index").write_bytes(table([(b"", header)]))
    with pytest.raises(WeightsError, match=words):
        TensorBundle(tmp_path / "m")


def test_limits_of_shards_and_index_size(tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(table([(b"", header_message(99_999))]))
    assert len(TensorBundle(tmp_path / "m")) == 0
    with (tmp_path / "m.index").open("wb") as file:
        file.truncate(2**26 + 1)  # sparse file
    with pytest.raises(WeightsError, match=r"has 67108865 bytes; expected at most 67108864"):
        TensorBundle(tmp_path / "m")
    (tmp_path / "m.index").unlink()
    with pytest.raises(WeightsError, match=r"cannot read .*m\.index: No such file"):
        TensorBundle(tmp_path / "m")


@pytest.mark.parametrize("name", ["my.data-set.ckpt", "model", ".index"])
def test_other_names_are_prefixes(tmp_path: Path, name: str) -> None:
    assert bundle_prefix(tmp_path / name) == tmp_path / name


def test_release_keeps_pages_shared_with_another_tensor(tmp_path: Path) -> None:
    """The previous tensor on the same page may still be in use."""
    page = mmap.PAGESIZE
    tensors = {"a": np.zeros(100, np.uint8), "b": np.zeros(3 * page, np.uint8), "c": np.zeros(8, np.uint8)}
    prefix = write_bundle(tmp_path / "m", tensors)
    bundle, released = TensorBundle(prefix), []

    class Recording(mmap.mmap):
        def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
            released.append((option, start, length))

    with (tmp_path / "m.data-00000-of-00001").open("rb") as file:
        bundle._shards[0] = Recording(file.fileno(), 0, access=mmap.ACCESS_READ)
    for name in "abc":
        bundle.release(name)
    assert released == [(mmap.MADV_DONTNEED, 0, 100), (mmap.MADV_DONTNEED, page, 2 * page + 100)]


def test_tables_with_repeated_blocks_are_refused() -> None:
    content = block([(b"a", b"1")])
    out = with_trailer(content)
    index = block([(b"b", varint(0) + varint(len(content))), (b"c", varint(0) + varint(len(content)))])
    handle = varint(len(out)) + varint(len(index))
    footer = (b"\0\0" + handle).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
    with pytest.raises(WeightsError, match="refers twice to the block"):
        read_table(out + with_trailer(index) + footer, "t")


def one_block(content: bytes, handle: bytes | None = None) -> bytes:
    """Create a table with one data block with a valid checksum."""
    out = with_trailer(content)
    index = block([(b"z", handle or varint(0) + varint(len(content)))])
    footer = (b"\0\0" + varint(len(out)) + varint(len(index))).ljust(40, b"\0")
    return out + with_trailer(index) + footer + (0xDB4775248B80FB57).to_bytes(8, "little")


def entry(shared: int, own: bytes, value: bytes = b"") -> bytes:
    return varint(shared) + varint(len(own)) + varint(len(value)) + own + value


ONE_RESTART = bytes(4) + (1).to_bytes(4, "little")


def test_keys_with_shared_prefixes_are_expanded() -> None:
    """Handwritten entries in the format of LevelDB's ``doc/table_format.md``."""
    content = entry(0, b"block", b"1") + entry(3, b"om", b"") + entry(2, b"t", b"x" * 200) + ONE_RESTART
    assert read_table(one_block(content), "t") == {b"block": b"1", b"bloom": b"", b"blt": b"x" * 200}
    assert read_table(one_block(ONE_RESTART), "t") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (entry(0, b"b") + entry(0, b"a") + ONE_RESTART, "key b'a' follows b'b'"),
        (entry(0, b"a") + entry(1, b"") + ONE_RESTART, "key b'a' follows b'a'"),
        (entry(0, b"a") + entry(2, b"b") + ONE_RESTART, "shares 2 bytes with a key of 1"),
        (entry(0, b"a" * 200) + 100 * entry(200, b"") + ONE_RESTART, "expand to more than"),
        (varint(0) + varint(5) + varint(0) + b"abc" + ONE_RESTART, "expected 5 more bytes, found 3"),
        (entry(0, b"a") + bytes(8), "0 restart points"),
        (entry(0, b"a") + bytes(4) + (3).to_bytes(4, "little"), "3 restart points"),
        (b"abc", "3 bytes with 0 restart points"),
        (b"\0\x80" + ONE_RESTART, "a number extends beyond the end"),
    ],
)
def test_damaged_blocks_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        read_table(one_block(content), "t")


def test_blocks_beyond_the_footer_or_with_wrong_checksums_are_refused() -> None:
    content = entry(0, b"a", b"1") + ONE_RESTART
    good = one_block(content)
    assert read_table(good, "t") == {b"a": b"1"}
    for position in range(len(content) + 5):
        damaged = bytearray(good)
        damaged[position] ^= 1
        with pytest.raises(WeightsError, match="checksum of the block at byte 0"):
            read_table(bytes(damaged), "t")
    with pytest.raises(WeightsError, match="a block of 1000 bytes at byte 0"):
        read_table(one_block(content, varint(0) + varint(1000)), "t")


def test_compressed_tables_and_other_files_are_refused(tmp_path: Path) -> None:
    content = block([(b"a", b"1")])
    out = with_trailer(content, kind=1)
    index = block([(b"b", varint(0) + varint(len(content)))])
    footer = (b"\0\0" + varint(len(out)) + varint(len(index))).ljust(40, b"\0")
    data = out + with_trailer(index) + footer + (0xDB4775248B80FB57).to_bytes(8, "little")
    with pytest.raises(WeightsError, match="compressed"):
        read_table(data, "t")
    with pytest.raises(WeightsError, match="not a TensorFlow checkpoint index"):
        read_table(b"PK\x03\x04" + bytes(100), "t")


@pytest.mark.shared
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_reads_the_index_of_every_official_checkpoint(shared: Path, name: str, tmp_path: Path) -> None:
    """Use the official index with a sparse data file of the correct length."""
    index = shared / "data" / "reference" / "i3d_checkpoint_index" / f"{name}.model.ckpt.index"
    expected = json.loads((shared / "oracles" / f"index_{name}.json").read_text())
    (tmp_path / "model.ckpt.index").write_bytes(index.read_bytes())
    with (tmp_path / "model.ckpt.data-00000-of-00001").open("wb") as file:
        file.truncate(expected["data_bytes"])
    bundle = TensorBundle(tmp_path / "model.ckpt")
    found = [
        {
            "name": name,
            "dtype": entry.dtype.name,
            "shape": list(entry.shape),
            "shard": entry.shard,
            "offset": entry.offset,
            "size": entry.size,
            "crc32c_masked": entry.masked_crc32c,
        }
        for name, entry in bundle.entries.items()
    ]
    assert found == expected["tensors"]


@pytest.mark.shared
def test_the_writer_of_the_tests_matches_tensorflow(shared: Path, tmp_path: Path) -> None:
    folder = shared / "oracles" / "i3d" / "checkpoints" / "rgb"
    index = (folder / "model.ckpt.index").read_bytes()
    data = lzma.decompress((folder / "model.ckpt.data-00000-of-00001.xz").read_bytes())
    (tmp_path / "theirs.index").write_bytes(index)
    (tmp_path / "theirs.data-00000-of-00001").write_bytes(data)
    theirs = TensorBundle(tmp_path / "theirs")
    ours = write_bundle(tmp_path / "ours", {name: theirs.tensor(name) for name in theirs}, crc32c=crc32c)
    assert (tmp_path / "ours.data-00000-of-00001").read_bytes() == data
    # Except for the key in the index block, which TensorFlow shortens.
    size = index.index(b"\0\0\0\0\x01\0\0\0\0")
    assert ours.with_name("ours.index").read_bytes()[:size] == index[:size]
