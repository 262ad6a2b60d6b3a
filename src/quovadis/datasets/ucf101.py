"""UCF-101: 13,320 clips of 101 actions, three official splits."""

import re
from os import PathLike
from pathlib import Path

from quovadis.datasets.manifest import Manifest
from quovadis.datasets.manifest_builder import ListedVideo, build_manifest
from quovadis.datasets.official_splits import VideoIndex, annotation_folder, check_split, read_words
from quovadis.datasets.video_files import is_video
from quovadis.errors import DatasetError

_VIDEO = re.compile(r"(?P<folder>\w+)/(?P<file>v_(?P<action>\w+)_g(?P<group>\d+)_c\d+\.\w+)")


def load_ucf101(
    root: str | PathLike[str], annotations: str | PathLike[str], *, split: int = 1, split_seed: int = 0
) -> Manifest:
    """Read UCF-101 with one of its official splits.

    Labels are in the order of ``classInd.txt``, starting at 0. This order ignores case, so it differs from a plain
    sort: Hammering comes before HammerThrow, JumpingJack before JumpRope. The official splits have no validation set;
    a tenth of the training videos is held out, without dividing groups.

    A group is a class and its ``gXX``, for example ``ApplyEyeMakeup_g08``. Clips of a group share actor and background.
    The same ``g08`` in another class is a different group.

    Args:
        root: Folder ``UCF-101`` with one subfolder per class, or the folder above it. Case and file extension may
            differ from the lists, as in ``HandstandPushups/v_HandStandPushups_g01_c01.mp4``.
        annotations: Folder ``ucfTrainTestlist`` with ``classInd.txt``, ``trainlist0N.txt`` and ``testlist0N.txt``, or
            the folder above it.
        split: Official split: 1, 2 or 3.
        split_seed: Seed of the validation split.

    Returns:
        The manifest, including listed videos whose file is missing.

    Raises:
        DatasetError: If split files are missing or inconsistent, or ``root`` does not contain the dataset.

    Example:
        >>> folder = getfixture("tmp_path")  # a dataset of two clips
        >>> _ = (folder / "classInd.txt").write_text("1 YoYo")
        >>> _ = (folder / "trainlist01.txt").write_text("YoYo/v_YoYo_g08_c01.avi 1")
        >>> _ = (folder / "testlist01.txt").write_text("YoYo/v_YoYo_g01_c01.avi")
        >>> (folder / "YoYo").mkdir()
        >>> (folder / "YoYo" / "v_YoYo_g08_c01.mp4").touch()
        >>> data = load_ucf101(root=folder, annotations=folder, split=1)
        >>> [(record.path.name, record.split, record.group, record.status) for record in data.records]
        [('v_YoYo_g08_c01.mp4', 'train', 'YoYo_g08', 'listed'), ('v_YoYo_g01_c01.avi', 'test', 'YoYo_g01', 'missing')]

    References:
        Soomro, Zamir, Shah: "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild", 2012,
        https://arxiv.org/abs/1212.0402. Videos and ``UCF101TrainTestSplits-RecognitionTask.zip``:
        https://www.crcv.ucf.edu/data/UCF101.php
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
    index = VideoIndex(Path(root), "UCF-101", labels)
    videos = [video for part, name in lists.items() for video in _read_list(folder / name, part, labels, index)]
    return build_manifest(
        f"ucf101-split{split}", index.root, videos, labels=labels, split_seed=split_seed, notes=index.notes()
    )


def group_of(path: Path) -> str:
    """Return the group of a file that is named as in UCF-101, else an empty string.

    Example:
        >>> group_of(Path("HandstandPushups/v_HandStandPushups_g07_c02.avi"))
        'HandstandPushups_g07'
    """
    match = _VIDEO.fullmatch(f"{path.parent.name}/{path.name}")
    return f"{match['folder']}_g{match['group']}" if match and is_video(path.name) else ""


def read_class_index(path: Path) -> list[str]:
    """Read the class names of ``classInd.txt``, in the order of their numbers.

    Raises:
        DatasetError: If a line is not the next number, starting at 1, and a new name.
    """
    labels: list[str] = []
    for where, words in read_words(path):
        if len(words) != 2 or words[0] != str(len(labels) + 1) or words[1] in labels:
            raise DatasetError(f"{where}: got {' '.join(words)!r}; expected '{len(labels) + 1} NAME' with a new name")
        labels.append(words[1])
    if not labels:
        raise DatasetError(f"{path} lists no classes")
    return labels


def _read_list(path: Path, split: str, labels: list[str], index: VideoIndex) -> list[ListedVideo]:
    videos = []
    for where, (text, *numbers) in read_words(path):
        match = _VIDEO.fullmatch(text)
        if match is None or not is_video(text) or match["folder"].lower() != match["action"].lower():
            raise DatasetError(f"{where}: got {text!r}; expected CLASS/v_CLASS_gXX_cYY.avi")
        label = match["folder"]
        if label not in labels:
            raise DatasetError(f"{where}: unknown class {label!r}: it is not in classInd.txt")
        # The published test lists have no class numbers, but a number that is given must be right.
        if (split == "train" or numbers) and numbers != [str(labels.index(label) + 1)]:
            raise DatasetError(
                f"{where}: class number of {label} is {' '.join(numbers) or 'missing'}; expected "
                f"{labels.index(label) + 1} as in classInd.txt"
            )
        videos.append(ListedVideo(index.find(label, match["file"]), label, split, f"{label}_g{match['group']}"))
    return videos
