"""The reader of TensorFlow checkpoints: against our writer, and our writer against TensorFlow."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from quovadis.errors import WeightsError
from quovadis.weights.crc32c import crc32c
from quovadis.weights.leveldb_table import read_table
from quovadis.weights.tensor_bundle import TensorBundle, bundle_prefix
from tests.weights.bundle import block, entry_message, header_message, table, varint, with_trailer, write_bundle

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
def test_reads_back_what_was_written(tmp_path: Path, num_shards: int, block_bytes: int) -> None:
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
def test_any_of_the_files_names_the_checkpoint(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "model.ckpt", some_tensors(), num_shards=2)
    assert bundle_prefix(tmp_path / name) == tmp_path / "model.ckpt"
    assert len(TensorBundle(tmp_path / name)) == 64


def test_a_wrong_byte_in_a_tensor_is_found_and_named(tmp_path: Path) -> None:
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
    with pytest.raises(WeightsError, match=r"m.data-00001-of-00002 has .* cut short"):
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
        (entry_message(1, (4,), 0, 2**62, 16, 0), "needs 16 at"),
        (entry_message(1, (2**40, 2**40), 0, 0, 16, 0), "its shape is"),
        (entry_message(1, (4,), 0, 0, 2**63, 0), "cut short"),
        (entry_message(1, (4,), 7, 0, 16, 0), "shard 7 of 1"),
        (entry_message(1, (2**64 - 1,), 0, 0, 16, 0), "its shape is"),
        (entry_message(14, (8,), 0, 0, 16, 0), "type 14"),
        (entry_message(1, (0, 2**60), 0, 0, 0, 0), "empty"),
        (entry_message(1, (4,), 0, 0, 16, 0) + b"\x3a\x00", "slices"),
        (b"\xff" * 11, "no end"),
        (b"\x12\x7f", "bytes wanted"),
    ],
)
def test_absurd_entries_are_refused_before_anything_is_allocated(tmp_path: Path, message: bytes, words: str) -> None:
    prefix = one_entry(tmp_path, message)
    with pytest.raises(WeightsError, match=words):
        TensorBundle(prefix).tensor("w")


def test_a_table_that_comes_back_to_a_block_is_refused() -> None:
    content = block([(b"a", b"1")])
    out = with_trailer(content)
    index = block([(b"b", varint(0) + varint(len(content))), (b"c", varint(0) + varint(len(content)))])
    handle = varint(len(out)) + varint(len(index))
    footer = (b"\0\0" + handle).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")
    with pytest.raises(WeightsError, match="comes back"):
        read_table(out + with_trailer(index) + footer, "t")


def test_compressed_and_foreign_files_say_what_they_are(tmp_path: Path) -> None:
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
    """The official index beside a data file of the right length, which takes no room: it is one hole."""
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
def test_our_writer_makes_the_bytes_that_tensorflow_makes(shared: Path, tmp_path: Path) -> None:
    folder = shared / "oracles" / "i3d" / "checkpoints" / "rgb"
    index = (folder / "model.ckpt.index").read_bytes()
    data = lzma.decompress((folder / "model.ckpt.data-00000-of-00001.xz").read_bytes())
    (tmp_path / "theirs.index").write_bytes(index)
    (tmp_path / "theirs.data-00000-of-00001").write_bytes(data)
    theirs = TensorBundle(tmp_path / "theirs")
    ours = write_bundle(tmp_path / "ours", {name: theirs.tensor(name) for name in theirs}, crc32c=crc32c)
    assert (tmp_path / "ours.data-00000-of-00001").read_bytes() == data
    # All but the key that names the block, which TensorFlow shortens, and with it the index block's length.
    size = index.index(b"\0\0\0\0\x01\0\0\0\0")
    assert ours.with_name("ours.index").read_bytes()[:size] == index[:size]
