"""Load a dataset from a folder, a table, a manifest or by name."""

import os
from os import PathLike
from pathlib import Path

from quovadis.datasets.class_folders import from_folder
from quovadis.datasets.manifest import Manifest
from quovadis.datasets.manifest_builder import check_files
from quovadis.datasets.manifest_file import SUFFIX
from quovadis.datasets.motions import EMBEDDED, load_motions
from quovadis.datasets.tables import TABLE_SUFFIXES, from_table
from quovadis.datasets.text_files import LIST_SUFFIXES
from quovadis.errors import DatasetError, UnknownNameError


def load_dataset(
    source: str | PathLike[str],
    *,
    split_seed: int = 0,
    root: str | PathLike[str] | None = None,
    group_by: str | None = None,
) -> Manifest:
    """Load a dataset of labeled videos.

    For UCF-101, HMDB-51 and Kinetics with their official lists, use :func:`~quovadis.datasets.ucf101.load_ucf101`,
    :func:`~quovadis.datasets.hmdb51.load_hmdb51` and :func:`~quovadis.datasets.kinetics.load.load_kinetics`.

    Args:
        source: One of

            * a folder with one subfolder per class, or with folders ``train``, ``val``, ``test`` of class folders;
            * a ``.csv`` or ``.tsv`` file with the columns ``path`` and ``label``, and optionally ``split`` and
              ``group``. Paths are absolute, or relative to the folder of the file and inside of it;
            * a ``.txt``, ``.lst``, ``.list`` or ``.csv`` file without a header, with lines ``path label``;
            * a ``.parquet`` manifest, written by ``quovadis data index`` or :meth:`Manifest.save`;
            * ``"motions"``, ``"motions-source"`` or ``"motions-target"``: synthetic datasets, written to the cache
              folder on first use.
        split_seed: Seed of the split, used if none is given. Videos are then split 70/15/15, keeping groups together.
        root: Folder of the videos of a table or manifest, if it is not the one given by the file. For a synthetic
            dataset, the folder to write to.
        group_by: Regular expression that finds the group of a video, such as its source recording, in its path relative
            to the root: the first group in parentheses, or the whole match. A video without a match is its own group.
            For folders, tables and lists without groups.

    Returns:
        The manifest. Listed videos that do not exist are kept, with the status ``missing``.

    Raises:
        DatasetError: If the dataset is invalid or none of its files exists.
        UnknownNameError: If ``source`` is neither an existing path nor a known name.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> for name in ("train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4", "test/jump/d.mp4"):
        ...     (folder / name).parent.mkdir(parents=True, exist_ok=True)
        ...     (folder / name).touch()
        >>> data = load_dataset(folder)
        >>> data.labels, len(data.split("train"))
        (('jump', 'run'), 2)
    """
    path = Path(source)
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if os.path.isdir(path):
        if root is not None:
            raise DatasetError(f"{path} is a folder, which is its own root: omit root; got {root}")
        return from_folder(path, split_seed=split_seed, group_by=group_by)
    if suffix in (*TABLE_SUFFIXES, *LIST_SUFFIXES):
        return from_table(path, split_seed=split_seed, root=None if root is None else Path(root), group_by=group_by)
    if group_by is not None:
        raise DatasetError(f"groups from file names are for folders, tables and lists; got {source}: omit --group-by")
    if suffix == SUFFIX:
        return check_files(Manifest.load(path, root=root))
    if str(source) in EMBEDDED:
        return load_motions(EMBEDDED[str(source)], root=root)
    if os.path.lexists(path):
        extensions = ", ".join((*TABLE_SUFFIXES, *LIST_SUFFIXES))
        raise DatasetError(f"{path} is neither a folder nor a {extensions} or {SUFFIX} file")
    raise UnknownNameError.among("dataset (and no such folder or file)", str(source), EMBEDDED)
