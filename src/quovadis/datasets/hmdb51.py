"""HMDB-51: clips of 51 actions from films and the web, three official splits."""

import re
from os import PathLike
from pathlib import Path

from quovadis.datasets.assemble import Found, assemble
from quovadis.datasets.manifest import Manifest
from quovadis.datasets.split_files import NameIndex, annotation_folder, check_split, read_lines
from quovadis.datasets.video_files import is_video
from quovadis.errors import DatasetError

_FLAGS = {"0": "", "1": "train", "2": "test"}
# After the class: what of the body is seen, camera moves or not, number of people, view, quality, running number.
_TAGS = r"_[a-z]+_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+\.\w+"


def load_hmdb51(
    root: str | PathLike[str], annotations: str | PathLike[str], *, split: int = 1, split_seed: int = 0
) -> Manifest:
    """HMDB-51 with one of its official splits.

    Labels are sorted by name. The official splits have no validation part; a tenth of the training videos, whole
    groups, is held out for it. Videos with flag 0 belong to neither part of a split and are left out; a note counts
    them.

    A group is a class and the source, for example ``walk/TheBoondockSaints``, where the source is what stands before
    ``_CLASS_`` and the tags in the file's name. It is not the source alone, because the official splits keep a source
    on one side within a class only: they put other actions of the same film on the other side. A note counts those
    test videos.

    Args:
        root: the folder ``hmdb51_org`` with one sub-folder a class, or the one above it.
        annotations: the folder ``testTrainMulti_7030_splits`` with ``CLASS_test_splitN.txt``, or the one above it.
        split: 1, 2 or 3.
        split_seed: chooses what is held out for validation.

    Returns:
        The manifest; videos that are listed and missing stay in it.

    Raises:
        DatasetError: annotation files that are missing or cannot be understood; a root that is not the dataset.

    Source: the official split files, testTrainMulti_7030_splits; the counts are in the tests.
    """
    check_split(split)
    folder, labels = _find_classes(Path(annotations), split)
    files = NameIndex(Path(root), "hmdb51_org", labels)
    rows = [row for label in labels for row in _read_list(folder / f"{label}_test_split{split}.txt", label, files)]
    found = [row for row in rows if row.split]
    notes = [*files.notes(), f"{len(rows) - len(found)} videos are not used by this split", _shared_sources(found)]
    return assemble(f"hmdb51-split{split}", files.root, found, labels=labels, split_seed=split_seed, notes=notes)


def group_of(path: Path) -> str:
    """The class and the film of a file that is named as those of HMDB-51 are; else empty.

    >>> group_of(Path("cartwheel/(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi"))
    'cartwheel/(Rad)Schlag_die_Bank!'
    """
    label = path.parent.name
    match = re.fullmatch(f"(.+)_{re.escape(label)}{_TAGS}", path.name)
    return f"{label}/{match[1]}" if match and is_video(path.name) else ""


def _find_classes(annotations: Path, split: int) -> tuple[Path, list[str]]:
    """The folder of the split files, and the classes that any split has a file for."""
    child = "testTrainMulti_7030_splits"
    home = annotations / child if (annotations / child).is_dir() else annotations
    matches = [re.fullmatch(r"(.+)_test_split\d\.txt", file.name) for file in home.glob("*_test_split?.txt")]
    labels = sorted({match[1] for match in matches if match})
    names = [f"{label}_test_split{split}.txt" for label in labels] or [f"CLASS_test_split{split}.txt"]
    return annotation_folder(home, child, names, "test_train_splits.rar"), labels


def _read_list(path: Path, label: str, files: NameIndex) -> list[Found]:
    found = []
    for where, words in read_lines(path):
        if len(words) != 2 or words[1] not in _FLAGS or not _is_file_name(words[0]):
            raise DatasetError(f"{where}: got {' '.join(words)!r}; expected 'FILE.avi FLAG' with flag 0, 1 or 2")
        name, flag = words
        found.append(Found(files.find(label, name), label, _FLAGS[flag], group_of(Path(label, name))))
    return found


def _is_file_name(text: str) -> bool:
    return is_video(text) and not any(c in text for c in "/\\")


def _shared_sources(found: list[Found]) -> str:
    """How far the split lets test videos come from films that training has seen with other actions."""
    trained = {video.group.partition("/")[2] for video in found if video.split == "train"} - {""}
    tests = [video for video in found if video.split == "test"]
    shared = sum(video.group.partition("/")[2] in trained for video in tests)
    return f"{shared} of {len(tests)} test videos come from films that training shows in other classes (official split)"
