"""Where files grow until they are whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quovadis.runtime import atomic


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder for what is under way, on the same disk as ``folder``: empty at the beginning, gone at the end.

    The caller holds the :class:`~quovadis.runtime.locks.FolderLock` of ``folder``.

    >>> with scratch_folder(getfixture("tmp_path")) as scratch:
    ...     list(scratch.iterdir())
    []
    """
    scratch = folder / ".partial"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    with storage_errors(scratch):
        scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """:func:`quovadis.runtime.atomic.storage_errors` of a job that can be resumed."""
    with atomic.storage_errors(path, "what is done is kept; run it again when there is room"):
        yield
