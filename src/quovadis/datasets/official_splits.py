"""Shared by UCF-101 and HMDB-51: read the official split files and find the listed videos."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from quovadis.datasets.text_files import read_text
from quovadis.datasets.video_files import is_ignored, is_video
from quovadis.errors import DatasetError

OFFICIAL_SPLITS = (1, 2, 3)


def check_split(split: int) -> None:
    """Raise :class:`DatasetError` if there is no official split of this number."""
    if split not in OFFICIAL_SPLITS:
        raise DatasetError(f"there is no official split {split!r}; expected 1, 2 or 3")


def annotation_folder(folder: Path, child: str, names: Iterable[str], archive: str) -> Path:
    """Return the folder that contains the split files: ``folder`` or ``folder/child``.

    Args:
        folder: Folder that the user gave.
        child: Name of the folder inside the published archive.
        names: Names of the files that must exist.
        archive: Name of the published archive, for the error message.

    Raises:
        DatasetError: If files are missing.
    """
    names = list(names)
    for candidate in (folder, folder / child):
        missing = [name for name in names if not (candidate / name).is_file()]
        if not missing:
            return candidate
        if len(missing) < len(names):
            break
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    raise DatasetError(
        f"{candidate if len(missing) < len(names) else folder} has no {', '.join(missing[:3])}{more}: pass the folder "
        f"that {archive} was unpacked to"
    )


def read_words(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ``file:line`` and the words of each line that is not blank.

    Raises:
        DatasetError: If the file cannot be read, or is not text.
    """
    for where, line in read_text(path).lines():
        yield where, line.split()


class VideoIndex:
    """Find listed videos in class folders, ignoring case and the file extension.

    Copies of UCF-101 differ in spelling: the archive has ``HandstandPushups/v_HandStandPushups_g01_c01.avi``, other
    copies use one of the spellings for both.

    Args:
        root: Folder with one subfolder per class, or the folder above it.
        child: Name of the folder inside the published archive.
        labels: The classes.

    Raises:
        DatasetError: If there is not a single class folder.
    """

    def __init__(self, root: Path, child: str, labels: Iterable[str]):
        labels = list(labels)
        names = {label.lower() for label in labels}
        for self.root in (root, root / child):
            folders = [f for f in _entries(self.root) if f.name.lower() in names and f.is_dir()]
            if folders:
                break
        else:
            problem = "has none of the class folders" if root.is_dir() else "is not a folder"
            raise DatasetError(
                f"{root} {problem}: expected the folder {child}, which contains {labels[0]}/ and {len(labels) - 1} "
                "others, or the folder above it"
            )
        files = [(folder.name, file) for folder in folders for file in _entries(folder)]
        self._by_name = {f"{folder}/{file.name}".lower(): file for folder, file in files}
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for folder, file in files:
            if is_video(file.name) and not is_ignored(file.name):
                self._by_stem[f"{folder}/{file.stem}".lower()].append(file)
        self._other_extensions: Counter[str] = Counter()

    def find(self, folder: str, name: str) -> Path:
        """Find a video by name, or else by name without extension.

        Returns:
            The path of the video, or the listed path if there is no such file.
        """
        exact = self._by_name.get(f"{folder}/{name}".lower())
        others = self._by_stem.get(f"{folder}/{Path(name).stem}".lower(), ())
        if exact is not None or not others:
            return exact or self.root / folder / name
        self._other_extensions[others[0].suffix.lower()] += 1
        return others[0]

    def notes(self) -> list[str]:
        """Return a note on the videos that were found with another extension than the listed one."""
        counts = ", ".join(f"{extension} {count}" for extension, count in self._other_extensions.most_common())
        total = self._other_extensions.total()
        return [f"{total} files have another extension than in the official lists ({counts})"] if total else []


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
