"""UCF-101: 13,320 clips of 101 actions, three official splits, groups of clips with one background and actor."""

import re
from os import PathLike
from pathlib import Path

from quovadis.datasets.assemble import Found, assemble
from quovadis.datasets.manifest import Manifest
from quovadis.datasets.split_files import NameIndex, annotation_folder, check_split, read_lines
from quovadis.datasets.video_files import is_video
from quovadis.errors import DatasetError

_VIDEO = re.compile(r"(?P<folder>\w+)/(?P<file>v_(?P<action>\w+)_g(?P<group>\d+)_c\d+\.\w+)")


def load_ucf101(
    root: str | PathLike[str], annotations: str | PathLike[str], *, split: int = 1, split_seed: int = 0
) -> Manifest:
    """UCF-101 with one of its official splits.

    Labels are in the order of ``classInd.txt``, which is alphabetical without regard to case, so *not* the order that
    sorting gives: Hammering comes before HammerThrow, JumpingJack before JumpRope. The file's numbers begin at 1, ours
    at 0. The official splits have no validation part; a tenth of the training videos, whole groups, is held out for it.

    A group is a class and its ``gXX``, for example ``ApplyEyeMakeup_g08``: the clips of one group share actor and
    background, while ``g08`` of another class is somebody else. The official splits never divide one.

    Args:
        root: the folder ``UCF-101`` with one sub-folder a class, or the one above it. Upper and lower case need not
            agree with the lists (``HandstandPushups`` holds files named ``v_HandStandPushups_*``), nor need the ending:
            files converted to ``.mp4`` are found.
        annotations: the folder ``ucfTrainTestlist`` with ``classInd.txt``, ``trainlist0N.txt``, ``testlist0N.txt``, or
            the one above it.
        split: 1, 2 or 3.
        split_seed: chooses what is held out for validation.

    Returns:
        The manifest; videos that are listed and missing stay in it.

    Raises:
        DatasetError: annotation files that are missing, or that contradict themselves; a root that is not the dataset.

    Source: the official split files, ucfTrainTestlist; the counts are in the tests.
    """
    check_split(split)
    lists = {"train": f"trainlist0{split}.txt", "test": f"testlist0{split}.txt"}
    folder = annotation_folder(
        Path(annotations),
        "ucfTrainTestlist",
        ["classInd.txt", *lists.values()],
        "UCF101TrainTestSplits-RecognitionTask.zip",
    )
    labels = read_class_index(folder / "classInd.txt")
    files = NameIndex(Path(root), "UCF-101", labels)
    found = [f for part, name in lists.items() for f in _read_list(folder / name, part, labels, files)]
    notes = files.notes()
    return assemble(f"ucf101-split{split}", files.root, found, labels=labels, split_seed=split_seed, notes=notes)


def group_of(path: Path) -> str:
    """The group of a file that is named as those of UCF-101 are; else empty.

    >>> group_of(Path("HandstandPushups/v_HandStandPushups_g07_c02.avi"))
    'HandstandPushups_g07'
    """
    match = _VIDEO.fullmatch(f"{path.parent.name}/{path.name}")
    return f"{match['folder']}_g{match['group']}" if match and is_video(path.name) else ""


def read_class_index(path: Path) -> list[str]:
    """Read ``classInd.txt``: the class names in the order of their numbers, which start at 1.

    Raises:
        DatasetError: If a line is not the next number and a new name.
    """
    labels: list[str] = []
    for where, words in read_lines(path):
        if len(words) != 2 or words[0] != str(len(labels) + 1) or words[1] in labels:
            raise DatasetError(f"{where}: got {' '.join(words)!r}; expected '{len(labels) + 1} NAME', a new name")
        labels.append(words[1])
    if not labels:
        raise DatasetError(f"{path} lists no classes")
    return labels


def _read_list(path: Path, split: str, labels: list[str], files: NameIndex) -> list[Found]:
    found = []
    for where, (text, *numbers) in read_lines(path):
        match = _VIDEO.fullmatch(text)
        if match is None or not is_video(text) or match["folder"].lower() != match["action"].lower():
            raise DatasetError(f"{where}: got {text!r}; expected CLASS/v_CLASS_gXX_cYY.avi")
        label = match["folder"]
        if label not in labels:
            raise DatasetError(f"{where}: unknown class {label!r}: it is not in classInd.txt")
        # The published test lists carry no number; where one stands, it must be right.
        if (split == "train" or numbers) and numbers != [str(labels.index(label) + 1)]:
            raise DatasetError(
                f"{where}: {label} has number {labels.index(label) + 1} in classInd.txt, the line says "
                f"{' '.join(numbers) or 'nothing'}"
            )
        found.append(Found(files.find(label, match["file"]), label, split, f"{label}_g{match['group']}"))
    return found
