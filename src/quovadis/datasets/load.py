"""From a name, a folder or a table to a :class:`~quovadis.datasets.manifest.Manifest`."""

import os
from os import PathLike
from pathlib import Path

from quovadis.datasets.assemble import require_files
from quovadis.datasets.class_folders import from_folder
from quovadis.datasets.manifest import Manifest
from quovadis.datasets.manifest_file import SUFFIX
from quovadis.datasets.motions import EMBEDDED, load_motions
from quovadis.datasets.tables import TABLE_SUFFIXES, from_table
from quovadis.datasets.text_files import LIST_SUFFIXES
from quovadis.errors import DatasetError, UnknownNameError


def load_dataset(
    source: str | PathLike[str], *, split_seed: int = 0, root: str | PathLike[str] | None = None
) -> Manifest:
    """Labeled videos from a folder, a table, a manifest, or by name.

    * A folder with one sub-folder per class; or with ``train``, ``val``, ``test`` folders that have one per class.
    * A ``.csv`` or ``.tsv`` file with the columns ``path`` and ``label``, and optionally ``split`` and ``group``.
      Paths are relative to the file's folder and stay inside it, or are written in full.
    * A ``.txt``, ``.lst``, ``.list`` or ``.csv`` file without a header, with lines ``path label``; see
      :func:`quovadis.datasets.tables.from_table`.
    * A ``.parquet`` file that ``quovadis data NAME_OR_PATH index`` or :meth:`Manifest.save` wrote; see
      :func:`quovadis.datasets.ucf101.load_ucf101` and its neighbors for the datasets of the paper.
    * ``"motions"``, ``"motions-source"``, ``"motions-target"``: the embedded datasets, written to disk on first use.

    Args:
        source: one of these.
        split_seed: where no split is given, one is made from it: 70 / 15 / 15 percent, whole groups only.
        root: the folder that holds the videos of a table or a manifest, where it is another than the file says; or
            where to write the embedded dataset.

    Raises:
        DatasetError: it cannot be used as it is; says where and why.
        UnknownNameError: neither a path that exists nor a name.
    """
    path = Path(source)
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if os.path.isdir(path):
        if root is not None:
            raise DatasetError(f"{path} is a folder, and so its own root: leave the root {root} out")
        return from_folder(path, split_seed=split_seed)
    if suffix in (*TABLE_SUFFIXES, *LIST_SUFFIXES):
        return from_table(path, split_seed=split_seed, root=None if root is None else Path(root))
    if suffix == SUFFIX:
        return require_files(Manifest.load(path, root=root))
    if str(source) in EMBEDDED:
        return load_motions(EMBEDDED[str(source)], root=root)
    if os.path.lexists(path):
        known = ", ".join((*TABLE_SUFFIXES, *LIST_SUFFIXES))
        raise DatasetError(f"{path} is neither a folder nor a {known} or {SUFFIX} file")
    raise UnknownNameError.among("dataset (and no such folder or file)", str(source), EMBEDDED)
