"""Hashes of files and texts."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Compute the SHA-256 of a text in UTF-8, as hexadecimal digits.

    >>> sha256_text("")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(text.encode()).hexdigest()


def git_blob_id(path: Path) -> str:
    r"""Compute the object ID that git gives a file: the SHA-1 of ``"blob SIZE\0"`` and the content."""
    prefix = f"blob {path.stat().st_size}\0".encode()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(prefix, usedforsecurity=False)).hexdigest()
