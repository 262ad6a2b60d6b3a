"""Vectorized CRC-32C (Castagnoli) in numpy: the checksum that TensorFlow stores for every tensor.

A message is a polynomial over GF(2), and its checksum is the remainder modulo a fixed polynomial P. Multiplication by
a fixed power of x is linear, so it takes four table lookups per 32-bit word. A long message is divided into rows of
words. All columns are processed at once (``state = state * x^(bits per row) + row``), and the columns are then reduced
to one word by repeated halving.

References:
    Polynomial and test vectors: RFC 3720, appendix B.4. Masking: LevelDB, ``util/crc32c.h``.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_ROW_WORDS = 4096
_ROW_BYTES = 4 * _ROW_WORDS

Words = NDArray[np.uint32]


def crc32c(data: bytes | bytearray | memoryview | NDArray[np.generic]) -> int:
    """Compute the CRC-32C of a buffer as an unsigned integer.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    message = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data.reshape(-1).view(np.uint8)
    if message.size < 4:
        return _bytewise(message.tobytes())
    # Leading zeros do not change a remainder, so the head is padded to whole rows. The tail is not copied.
    head_size = message.size % _ROW_BYTES
    if message.size >= _ROW_BYTES and head_size <= _ROW_BYTES // 2:
        head_size += _ROW_BYTES
    head = message[:head_size].copy()
    head[:4] ^= 0xFF  # initial value of the register: all ones
    words = _padded(head)
    if words.size >= _ROW_WORDS:
        state = _by_rows(np.zeros(_ROW_WORDS, np.uint32), words)
        words = _by_rows(state, np.frombuffer(message[head_size:].data, "<u4"))
    while words.size > 1:
        half = words.size // 2
        words = _times(_power(32 * half), words[:half]) ^ words[half:]
    return int(_times(_power(32), words)[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview | NDArray[np.generic]) -> int:
    """Compute the checksum in the form that LevelDB and TensorFlow store: rotated by 15 bits, plus a constant.

    >>> masked_crc32c(b"") == 0xA282EAD8
    True
    """
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _padded(head: NDArray[np.uint8]) -> Words:
    """Pad bytes with leading zeros to whole rows, or, below half a row, to a power of two of words."""
    num_words = -(-head.size // 4)
    unit = _ROW_WORDS if num_words > _ROW_WORDS // 2 else 1 << (num_words - 1).bit_length()
    padded = np.zeros(4 * -(-num_words // unit) * unit, np.uint8)
    padded[-head.size :] = head
    return padded.view("<u4")


def _by_rows(state: Words, words: Words) -> Words:
    table = _power(32 * _ROW_WORDS)
    for row in words.reshape(-1, _ROW_WORDS):
        state = _times(table, state) ^ row
    return state


def _times(table: Words, words: Words) -> Words:
    """Multiply words by the power of x of a table (4, 256)."""
    octets = words.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)
    product = table[0].take(octets[:, 0])
    for index in (1, 2, 3):
        product ^= table[index].take(octets[:, index])
    return product


@cache
def _power(bits: int) -> Words:
    """Compute the table of multiplication by x^bits modulo P, of shape (4, 256): one row for each byte of a word."""
    if bits == 32:
        table = np.zeros((4, 256), np.uint32)
        values = np.arange(256, dtype=np.uint32)
        for index in range(4):
            words = values << np.uint32(8 * index)
            for _ in range(32):
                words = (words >> np.uint32(1)) ^ np.where(words & np.uint32(1), np.uint32(_POLYNOMIAL), np.uint32(0))
            table[index] = words
        return table
    half = _power(bits // 2)  # bits is 32 times a power of two
    return np.stack([_times(half, half[index]) for index in range(4)])


def _bytewise(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
