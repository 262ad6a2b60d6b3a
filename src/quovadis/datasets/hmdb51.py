"""HMDB-51: clips of 51 actions from films and the web, three official splits."""

import re
from os import PathLike
from pathlib import Path

from quovadis.datasets.manifest import Manifest
from quovadis.datasets.manifest_builder import ListedVideo, build_manifest
from quovadis.datasets.official_splits import VideoIndex, annotation_folder, check_split, read_words
from quovadis.datasets.video_files import is_video
from quovadis.errors import DatasetError

_SPLIT_OF_FLAG = {"0": "", "1": "train", "2": "test"}
# After the class: visible body parts, camera motion, number of people, viewpoint, quality, running number.
_TAGS = r"_[a-z]+_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+\.\w+"


def load_hmdb51(
    root: str | PathLike[str], annotations: str | PathLike[str], *, split: int = 1, split_seed: int = 0
) -> Manifest:
    """Read HMDB-51 with one of its official splits.

    Labels are sorted by name. The official splits have no validation set; a tenth of the training videos is held out,
    without dividing groups. Videos with flag 0 are in neither part of a split; they are excluded and counted in a note.

    A group is a class and a source film, for example ``walk/TheBoondockSaints``; the source is the part of the file
    name before ``_CLASS_``. The official splits separate sources only within a class: clips of one film with different
    actions may be in both training and test. A note counts these test videos.

    Args:
        root: Folder ``hmdb51_org`` with one subfolder per class, or the folder above it. Case and file extension may
            differ from the lists.
        annotations: Folder ``testTrainMulti_7030_splits`` with ``CLASS_test_splitN.txt``, or the folder above it.
        split: Official split: 1, 2 or 3.
        split_seed: Seed of the validation split.

    Returns:
        The manifest, including listed videos whose file is missing.

    Raises:
        DatasetError: If split files are missing or invalid, or ``root`` does not contain the dataset.

    Example:
        >>> folder = getfixture("tmp_path")  # a dataset of two clips
        >>> names = ["Bank_wave_u_cm_np1_fr_med_0.avi", "Trees_wave_u_cm_np1_fr_med_0.avi"]
        >>> lines = f"{names[0]} 1 {chr(10)}{names[1]} 2"
        >>> _ = (folder / "wave_test_split1.txt").write_text(lines)
        >>> (folder / "wave").mkdir()
        >>> (folder / "wave" / names[0]).touch()
        >>> data = load_hmdb51(root=folder, annotations=folder, split=1)
        >>> [(record.split, record.group, record.status) for record in data.records]
        [('train', 'wave/Bank', 'listed'), ('test', 'wave/Trees', 'missing')]

    References:
        Kuehne, Jhuang, Garrote, Poggio, Serre: "HMDB: A Large Video Database for Human Motion Recognition", ICCV 2011,
        https://doi.org/10.1109/ICCV.2011.6126543.
        Videos and ``test_train_splits.rar``:
        https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/
    """
    check_split(split)
    folder, labels = _find_classes(Path(annotations), split)
    index = VideoIndex(Path(root), "hmdb51_org", labels)
    rows = [row for label in labels for row in _read_list(folder / f"{label}_test_split{split}.txt", label, index)]
    videos = [row for row in rows if row.split]
    notes = [*index.notes(), f"{len(rows) - len(videos)} videos are not used by this split", _note_on_films(videos)]
    return build_manifest(f"hmdb51-split{split}", index.root, videos, labels=labels, split_seed=split_seed, notes=notes)


def group_of(path: Path) -> str:
    """Return class and film of a file that is named as in HMDB-51, else an empty string.

    Example:
        >>> group_of(Path("cartwheel/(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi"))
        'cartwheel/(Rad)Schlag_die_Bank!'
    """
    label = path.parent.name
    match = re.fullmatch(f"(.+)_{re.escape(label)}{_TAGS}", path.name)
    return f"{label}/{match[1]}" if match and is_video(path.name) else ""


def _find_classes(annotations: Path, split: int) -> tuple[Path, list[str]]:
    """Return the folder of the split files, and the classes that have a file for any split."""
    child = "testTrainMulti_7030_splits"
    folder = annotations / child if (annotations / child).is_dir() else annotations
    matches = [re.fullmatch(r"(.+)_test_split\d\.txt", file.name) for file in folder.glob("*_test_split?.txt")]
    labels = sorted({match[1] for match in matches if match})
    names = [f"{label}_test_split{split}.txt" for label in labels] or [f"CLASS_test_split{split}.txt"]
    return annotation_folder(folder, child, names, "test_train_splits.rar"), labels


def _read_list(path: Path, label: str, index: VideoIndex) -> list[ListedVideo]:
    videos = []
    for where, words in read_words(path):
        if len(words) != 2 or words[1] not in _SPLIT_OF_FLAG or not is_video(words[0]) or re.search(r"[/\\]", words[0]):
            raise DatasetError(f"{where}: got {' '.join(words)!r}; expected 'FILE.avi FLAG' with flag 0, 1 or 2")
        name, flag = words
        videos.append(ListedVideo(index.find(label, name), label, _SPLIT_OF_FLAG[flag], group_of(Path(label, name))))
    return videos


def _note_on_films(videos: list[ListedVideo]) -> str:
    """Count the test videos whose film is also used in training, with another action."""
    trained = {video.group.partition("/")[2] for video in videos if video.split == "train"} - {""}
    tests = [video for video in videos if video.split == "test"]
    shared = sum(video.group.partition("/")[2] in trained for video in tests)
    return f"{shared} of {len(tests)} test videos are from films that other training classes use (official split)"
