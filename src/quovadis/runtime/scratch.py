"""Temporary folders for files that are still being written."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quovadis.runtime import atomic


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Create an empty temporary folder below ``folder``, on the same disk, and remove it at the end.

    The caller holds the :class:`~quovadis.runtime.locks.FolderLock` of ``folder``.

    >>> with scratch_folder(getfixture("tmp_path")) as scratch:
    ...     list(scratch.iterdir())
    []
    """
    scratch = folder / ".partial"
    shutil.rmtree(scratch, ignore_errors=True)  # left by a killed process
    with storage_errors(scratch):
        scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Apply :func:`quovadis.runtime.atomic.storage_errors` with the advice for jobs that can be resumed."""
    with atomic.storage_errors(path, "what is done is kept; run the command again when there is space"):
        yield
