"""The text files in which UCF-101 and HMDB-51 publish their splits, and the folders that they are about."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from quovadis.datasets.text_files import read_text
from quovadis.datasets.video_files import is_ignored, is_video
from quovadis.errors import DatasetError

OFFICIAL_SPLITS = (1, 2, 3)


def check_split(split: int) -> None:
    """Refuse a number that no official split has."""
    if split not in OFFICIAL_SPLITS:
        raise DatasetError(f"there is no official split {split!r}; expected one of 1, 2, 3")


def annotation_folder(folder: Path, child: str, names: Iterable[str], origin: str) -> Path:
    """The folder that has all these files: ``folder`` or its ``child``, as the archive unpacks.

    Raises:
        DatasetError: some are missing; says which and where they come from.
    """
    names = list(names)
    for candidate in (folder, folder / child):
        absent = [name for name in names if not (candidate / name).is_file()]
        if not absent:
            return candidate
        if len(absent) < len(names):
            break
    more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
    raise DatasetError(
        f"{candidate if len(absent) < len(names) else folder} has no {', '.join(absent[:3])}{more}: name the folder "
        f"that {origin} was unpacked to"
    )


def read_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The words of each line that has some, with ``file:line`` to tell where; any line ends, any spaces.

    Raises:
        DatasetError: it is no text, or cannot be read.
    """
    for where, line in read_text(path).lines():
        yield where, line.split()


class NameIndex:
    """Files of class folders, found whatever the case of their letters and whatever container they were converted to.

    The copies of UCF-101 that are around disagree: ``HandstandPushups/v_HandStandPushups_g01_c01.avi`` in the
    archive, either spelling for both elsewhere.

    Args:
        root: the folder with one sub-folder a class; or the folder above it.
        child: what the folder is called in the archive.
        labels: the classes.

    Raises:
        DatasetError: not a single class folder is there.
    """

    def __init__(self, root: Path, child: str, labels: Iterable[str]):
        labels = list(labels)
        wanted = {label.lower() for label in labels}
        for self.root in (root, root / child):
            folders = [f for f in _entries(self.root) if f.name.lower() in wanted and f.is_dir()]
            if folders:
                break
        else:
            state = "has none of the class folders" if root.is_dir() else "is no folder"
            raise DatasetError(
                f"{root} {state}: expected the folder {child}, which holds {labels[0]}/ and {len(labels) - 1} others, "
                "or the one above it"
            )
        files = [(f.name, v) for f in folders for v in _entries(f)]
        self._files = {f"{folder}/{v.name}".lower(): v for folder, v in files}
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for folder, v in files:
            if is_video(v.name) and not is_ignored(v.name):
                self._stems[f"{folder}/{v.stem}".lower()].append(v)
        self._endings: Counter[str] = Counter()

    def find(self, folder: str, name: str) -> Path:
        """Find a video: by its name, else by its name with the ending of another container.

        Returns:
            The path; as it is listed where there is no such file.
        """
        exact = self._files.get(f"{folder}/{name}".lower())
        others = self._stems.get(f"{folder}/{Path(name).stem}".lower(), ())
        if exact is not None or not others:
            return exact or self.root / folder / name
        self._endings[others[0].suffix.lower()] += 1
        return others[0]

    def notes(self) -> list[str]:
        """How many videos were found under another ending than the lists have."""
        endings = ", ".join(f"{ending} {count}" for ending, count in self._endings.most_common())
        total = self._endings.total()
        return [f"{total} files have another ending than in the official lists ({endings})"] if total else []


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
