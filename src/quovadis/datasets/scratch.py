"""Where files grow until they are whole, and what to say when the disk does not take them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quovadis.errors import QuovadisError, StorageError


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder for what is under way, on the same disk as ``folder``: empty at the beginning, gone at the end.

    The caller holds the :class:`~quovadis.datasets.folder_lock.FolderLock` of ``folder``.

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
    """What the system says about the disk within the block, as a :class:`~quovadis.errors.StorageError`."""
    try:
        yield
    except QuovadisError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}. What is done is kept; run it again when there is room"
        ) from error
