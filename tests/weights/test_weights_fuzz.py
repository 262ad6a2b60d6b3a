"""Fuzz tests: for any file, the reader soon raises WeightsError or returns correct tensors.

Random mutations change any byte of any file; most are detected by checksums. Targeted mutations keep the checksums
valid and use extreme lengths, offsets, shards, shapes, handles and names. All seeds are fixed.
"""

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from quovadis.errors import WeightsError
from quovadis.weights.formats import read_video_weights
from quovadis.weights.tensor_bundle import TensorBundle
from tests.weights.bundle import (
    MAGIC,
    block,
    entry_message,
    field,
    header_message,
    masked,
    table,
    varint,
    with_trailer,
    write_bundle,
)

ABSURD = (0, 1, 5, 127, 128, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
# Memory that reading may use in addition to the size of the files: checksum tables, messages, Python objects.
SLACK_BYTES = 1_500_000


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {f"net/block_{i}/conv/w": rng.normal(size=(2, i + 1, 3)).astype(np.float32) for i in range(24)}


class Reader:
    """Reads mutated checkpoints with limits on time and memory, and counts the outcomes."""

    def __init__(self, folder: Path):
        self.prefix = folder / "model.ckpt"
        self.refused = self.correct = 0

    def attempt(self, files: dict[str, bytes], original: dict[str, np.ndarray] | None, what: str) -> None:
        """Read files; with ``original``, the tensors must be equal to it."""
        for old in self.prefix.parent.iterdir():
            old.unlink()
        for name, content in files.items():
            (self.prefix.parent / name).write_bytes(content)
        size = sum(map(len, files.values()))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        start = time.monotonic()
        try:
            bundle = TensorBundle(self.prefix)
            total = 0
            for name in bundle:
                values = bundle.tensor(name)
                total += values.nbytes
                if original is not None:
                    np.testing.assert_array_equal(values, original[name], err_msg=what)
            if original is not None:
                assert set(bundle) == set(original), what
            self.correct += 1
        except WeightsError:
            self.refused += 1
        assert time.monotonic() - start < 5, f"{what} took too long"
        assert tracemalloc.get_traced_memory()[1] - before < size + SLACK_BYTES, f"{what} took too much memory"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    tracemalloc.start()
    yield Reader(tmp_path)
    tracemalloc.stop()


def mutate(rng: np.random.Generator, content: bytes) -> bytes:
    """Flip, truncate, repeat, drop or overwrite bytes at random positions."""
    data = bytearray(content)
    position = int(rng.integers(len(data)))
    match int(rng.integers(7)):
        case 0:
            data[position] ^= 1 << int(rng.integers(8))
        case 1:
            del data[position:]
        case 2:
            data[position:position] = data[position : position + int(rng.integers(1, 64))]
        case 3:
            del data[position : position + int(rng.integers(1, 64))]
        case 4:
            data[position : position + 8] = rng.bytes(8)
        case 5:
            data[position : position + 10] = varint(ABSURD[int(rng.integers(len(ABSURD)))])
        case _:
            for _ in range(int(rng.integers(2, 20))):
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(data)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param({"num_shards": 1}, id="one"),
        pytest.param({"num_shards": 3, "block_bytes": 100}, id="many", marks=pytest.mark.slow),
    ],
)
def test_random_mutations_are_detected(tmp_path: Path, reader: Reader, layout: dict[str, int]) -> None:
    original = tensors()
    write_bundle(reader.prefix, original, **layout)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    rng = np.random.default_rng(len(files))
    for number in range(700):
        name = sorted(files)[int(rng.integers(len(files)))] if number % 3 == 0 else "model.ckpt.index"
        changed = files | {name: mutate(rng, files[name])}
        reader.attempt(changed, original, f"mutation {number} of {name}")
    assert reader.refused + reader.correct == 700
    assert reader.refused > 500  # other mutations changed unused bytes: padding of the footer, trailing data


@pytest.mark.slow
def test_mutations_with_valid_checksums(tmp_path: Path, reader: Reader) -> None:
    """Mutate the data block and update its checksum."""
    original = tensors()
    write_bundle(reader.prefix, original)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    index = files["model.ckpt.index"]
    end = index.index(with_trailer(block([])))  # the metaindex block follows the data block
    rng = np.random.default_rng(1)
    for number in range(600):
        content = bytearray(index[: end - 5])
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(len(content)))
            content[place] = int(rng.integers(256)) if number % 2 else content[place] ^ 1 << int(rng.integers(8))
        changed = files | {"model.ckpt.index": with_trailer(bytes(content)) + index[end:]}
        reader.attempt(changed, None, f"mutation {number}")
    assert reader.refused + reader.correct == 600
    assert reader.refused > 450


def test_extreme_numbers_in_entries(tmp_path: Path, reader: Reader) -> None:
    data = bytes(64)
    good: dict[str, object] = {"dtype": 1, "shape": (4, 4), "shard": 0, "offset": 0, "size": 64, "crc": masked(data)}
    changes: list[tuple[str, object]] = [
        (key, value) for key in ("dtype", "shard", "offset", "size") for value in ABSURD
    ]
    changes += [("shape", (value, 4)) for value in ABSURD] + [
        ("shape", (value,) * n) for value in ABSURD for n in (1, 40)
    ]
    for key, value in changes:
        entry = entry_message(**(good | {key: value}))  # type: ignore[arg-type]
        content = table([(b"", header_message(1)), (b"w", entry)])
        reader.attempt({"model.ckpt.index": content, "model.ckpt.data-00000-of-00001": data}, None, f"{key}={value}")
    assert reader.refused >= len(changes) - 6  # some of the values are valid


def test_extreme_headers_handles_and_restarts(tmp_path: Path, reader: Reader) -> None:
    data = bytes(64)
    entries = [(b"", header_message(1)), (b"w", entry_message(1, (16,), 0, 0, 64, masked(data)))]
    content = block(entries)
    body = with_trailer(content)
    cases: dict[str, bytes] = {}
    for value in ABSURD:
        cases[f"{value} shards"] = table([(b"", field(1, value)), entries[1]])
        cases[f"endianness {value}"] = table([(b"", field(1, 1) + field(2, value)), entries[1]])
        for other in ABSURD:
            index = block([(b"x", varint(value) + varint(other))])
            footer = b"\0\0" + varint(len(body)) + varint(len(index))
            cases[f"block at {value}, {other}"] = body + with_trailer(index) + close(footer)
            cases[f"index at {value}, {other}"] = body + close(b"\0\0" + varint(value) + varint(other))
        restarts = content[:-4] + (value & 2**32 - 1).to_bytes(4, "little")
        cases[f"{value} restarts"] = one_block(restarts)
        for place in range(3):
            lengths = [0, 1, 1]
            lengths[place] = value
            lie = b"".join(map(varint, lengths)) + b"kv" + bytes(4) + (1).to_bytes(4, "little")
            cases[f"lengths {lengths}"] = one_block(lie)
    cases["an index that is its own block"] = self_pointing()
    cases["keys that unfold to more than the file"] = one_block(unfolding_keys())
    for what, index in cases.items():
        reader.attempt({"model.ckpt.index": index, "model.ckpt.data-00000-of-00001": data}, None, what)
    assert reader.refused >= len(cases) - 6


def test_names_in_an_index_are_never_used_as_paths(tmp_path: Path, reader: Reader) -> None:
    """File names of shards consist of the prefix and two numbers."""
    secret = tmp_path.parent / "secret"
    secret.write_bytes(bytes(64))
    names = [
        "../secret",
        "/etc/passwd",
        "..\\..\\x",
        "w\0x",
        "\ud800".encode("utf-8", "surrogatepass"),
        b"\xff\xfe",
        "a" * 5000,
    ]
    for name in names:
        key = name if isinstance(name, bytes) else name.encode()
        entry = entry_message(1, (16,), 0, 0, 64, masked(bytes(64)))
        reader.attempt(
            {"model.ckpt.index": table([(b"", header_message(1)), (key, entry)])}, None, f"name {key[:20]!r}"
        )
        with pytest.raises(WeightsError):  # no other file may be used as the data file
            TensorBundle(reader.prefix)
        (tmp_path / "model.ckpt.data-00000-of-00001").write_bytes(bytes(64))
        with pytest.raises(WeightsError, match="not an I3D checkpoint"):
            read_video_weights(reader.prefix)
    assert secret.read_bytes() == bytes(64)


def close(footer: bytes) -> bytes:
    return footer[:40].ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def one_block(content: bytes) -> bytes:
    body = with_trailer(content)
    index = block([(b"x", varint(0) + varint(len(content)))])
    return body + with_trailer(index) + close(b"\0\0" + varint(len(body)) + varint(len(index)))


def self_pointing() -> bytes:
    index = block([(b"x", varint(0) + varint(20))])
    assert len(index) < 64
    index = block([(b"x", varint(0) + varint(len(index)))])
    return with_trailer(index) + close(b"\0\0" + varint(0) + varint(len(index)))


def unfolding_keys() -> bytes:
    """Each key extends the previous key by one byte, so a block of n bytes expands to n squared."""
    entries = b"".join(varint(n) + varint(1) + varint(0) + b"k" for n in range(20_000))
    return entries + bytes(4) + (1).to_bytes(4, "little")
