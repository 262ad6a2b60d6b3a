import numpy as np
import pytest

from quovadis.weights.crc32c import crc32c, masked_crc32c
from tests.weights.bundle import crc32c_by_definition, masked


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_vectors_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


def test_crc32c_matches_the_definition_at_lengths_around_the_row_size() -> None:
    rng = np.random.default_rng(0)
    lengths = [*range(70), *(16384 * k + d for k in (1, 2, 3) for d in (-8193, -8192, -5, -1, 0, 1, 2, 3, 4, 5, 8192))]
    for length in lengths:
        data = rng.bytes(length)
        assert crc32c(data) == crc32c_by_definition(data), length


def test_crc32c_accepts_any_dtype_and_unaligned_memory() -> None:
    values = np.random.default_rng(1).normal(size=9000).astype(np.float32)
    assert crc32c(values) == crc32c(values.tobytes()) == crc32c(memoryview(b"x" + values.tobytes())[1:])
    assert masked_crc32c(values) == masked(values.tobytes())
