"""Annotation files of Kinetics-400, -600 and -700, and the file names of their clips.

The published columns are ``label,youtube_id,time_start,time_end,split,is_cc`` for Kinetics-400. Later versions have no
``is_cc``, which is not used here. Most test files have no ``label``. Kinetics-700 calls the split ``validate``.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path, PurePosixPath

from quovadis.datasets.class_names import normalize_name
from quovadis.datasets.kinetics.class_names import LABEL_SETS
from quovadis.datasets.manifest import SPLIT_WORDS, SPLITS
from quovadis.datasets.text_files import read_text
from quovadis.errors import DatasetError, UnknownNameError

KINETICS = tuple(LABEL_SETS)
"""Names of the versions: kinetics400, kinetics600, kinetics700."""

_ID_LENGTH = 11
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_CLIP_NAME = re.compile(r"([\w-]{11})_\d{6}_\d{6}")
_SECONDS = re.compile(r"\d{1,9}(\.\d{0,9})?")
_REQUIRED = ("youtube_id", "time_start", "time_end")
_EXPECTED_HEADER = "label,youtube_id,time_start,time_end,split[,is_cc], without label for test files"


@dataclass(frozen=True)
class KineticsClip:
    """One row of an annotation file: a segment of a YouTube video.

    Raises:
        DatasetError: If the ID is invalid, the end is not after the start, or the label cannot be a folder name.
        UnknownNameError: If the split is unknown.

    Example:
        >>> KineticsClip("-3B32lodo2M", 59, 69, "val", "abseiling").path.as_posix()
        'abseiling/-3B32lodo2M_000059_000069.mp4'
    """

    youtube_id: str
    start_seconds: float
    end_seconds: float
    split: str
    """``train``, ``val`` or ``test``."""
    label: str | None = None
    """None if the file has no labels, as most test files."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.youtube_id):
            raise DatasetError(
                f"{self.youtube_id!r} is not a valid YouTube ID; expected {_ID_LENGTH} letters, digits, '-' or '_'"
            )
        if not 0 <= self.start_seconds < self.end_seconds < float("inf"):
            raise DatasetError(
                f"{self.youtube_id}: got {self.start_seconds:g} s to {self.end_seconds:g} s; expected an end after the "
                "start"
            )
        if self.split not in SPLITS:
            raise UnknownNameError.among("split", self.split, SPLITS)
        if self.label is not None and (problem := _problem_with_label(self.label)):
            raise DatasetError(f"the label {self.label!r} cannot be used as a folder name: it {problem}")

    @property
    def stem(self) -> str:
        """File name without extension: ID, start and end in whole seconds, as the official crawler names clips."""
        return f"{self.youtube_id}_{int(self.start_seconds):06d}_{int(self.end_seconds):06d}"

    @property
    def path(self) -> PurePosixPath:
        """Path inside the dataset: in the folder of the class, or of the split if there is no label."""
        return PurePosixPath(self.label or self.split) / f"{self.stem}.mp4"


@cache
def _problem_with_label(label: str) -> str:
    if not label.strip() or label != label.strip():
        return "is empty, or starts or ends with a space"
    if label.startswith("."):
        return "starts with a dot"
    if any(c in '/\\:*?"<>|' or not c.isprintable() for c in label):
        return "contains a character that is not allowed in folder names"
    return ""


def read_annotations(
    path: str | PathLike[str], *, labels: Sequence[str] = (), split: str | None = None
) -> tuple[KineticsClip, ...]:
    """Read the clips of an annotation file, in its order and including repeated rows.

    Args:
        path: CSV file, optionally compressed (``.gz``), with the published columns in any order. Other columns are
            ignored.
        labels: Allowed classes; empty to allow any. Names with underscores or without punctuation are matched.
        split: Split of a file without that column.

    Raises:
        DatasetError: If the file does not exist, has a wrong header, or has an invalid row.

    Example:
        >>> path = getfixture("tmp_path") / "val.csv"
        >>> rows = ['label,youtube_id,time_start,time_end,split', '"air drumming",_dbcJuKJQNs,40,50,validate']
        >>> _ = path.write_text(chr(10).join(rows))
        >>> read_annotations(path, labels=["air drumming"])[0]
        KineticsClip(youtube_id='_dbcJuKJQNs', start_seconds=40.0, end_seconds=50.0, split='val', label='air drumming')

    References:
        Kay et al.: "The Kinetics Human Action Video Dataset", 2017, https://arxiv.org/abs/1705.06950. Carreira et al.:
        Kinetics-600, https://arxiv.org/abs/1808.01340, and Kinetics-700, https://arxiv.org/abs/1907.06987. Files:
        https://github.com/cvdfoundation/kinetics-dataset
    """
    path = Path(path)
    rows = read_text(path).rows()
    _, header = next(rows, ("", []))
    columns = _columns(path, header, split)
    label_of_name = {normalize_name(label): label for label in labels} | {label: label for label in labels}
    clips = []
    for where, cells in rows:
        if len(cells) != len(header):
            raise DatasetError(f"{where}: {len(cells)} cells; the header has {len(header)}")
        row = {name: cells[position].strip() for name, position in columns.items()}
        try:
            clips.append(_clip(row, label_of_name, split))
        except DatasetError as error:
            raise DatasetError(f"{where}: {error}") from None
    if not clips:
        raise DatasetError(f"{path} has a header but no rows")
    return tuple(clips)


def select_clips(
    clips: Sequence[KineticsClip],
    *,
    split: str | None = None,
    classes: Collection[str] = (),
    youtube_ids: Collection[str] = (),
    limit: int | None = None,
) -> tuple[KineticsClip, ...]:
    """Select clips by split, class and YouTube ID, for example for Mini-Kinetics; repeated clips count once.

    Args:
        clips: Clips of annotation files.
        split: Keep this split only.
        classes: Keep these classes only. The paper's first version used 213 classes, which were never published.
        youtube_ids: Keep clips of these videos only, as Mini-Kinetics-200 (S3D paper) does.
        limit: Keep at most this many clips, the first ones.

    Returns:
        The clips in their order.

    Raises:
        DatasetError: If no clip is left, or two different clips have the same file name.
        UnknownNameError: If no clip has one of the classes.

    Example:
        >>> clips = [KineticsClip("-3B32lodo2M", 59, 69, split, "abseiling") for split in ("train", "val")]
        >>> len(select_clips(clips, split="val", classes=["abseiling"]))
        1
    """
    available = {clip.label for clip in clips if clip.label}
    for name in classes:
        if name not in available:
            raise UnknownNameError.among("class", name, available)
    kept_classes, kept_ids = frozenset(classes), frozenset(youtube_ids)
    chosen = [
        clip
        for clip in dict.fromkeys(clips)
        if (split is None or clip.split == split)
        and (not kept_classes or clip.label in kept_classes)
        and (not kept_ids or clip.youtube_id in kept_ids)
    ][:limit]
    if not chosen:
        raise DatasetError(
            f"none of the {len(clips)} clips is selected: split {split or 'any'}, "
            f"{len(kept_classes) or 'all'} classes, {len(kept_ids) or 'all'} ids"
        )
    clip_at: dict[PurePosixPath, KineticsClip] = {}
    for clip in chosen:
        if clip_at.setdefault(clip.path, clip) != clip:
            raise DatasetError(
                f"{clip_at[clip.path]} and {clip} would be written to one file, {clip.path}: exclude one of them"
            )
    return tuple(chosen)


def read_names(path: str | PathLike[str]) -> tuple[str, ...]:
    """Read a list of classes or YouTube IDs, one per line; the file may be compressed (``.gz``).

    Raises:
        DatasetError: If the file does not exist or is empty.
    """
    names = tuple(dict.fromkeys(line for _, line in read_text(Path(path)).lines()))
    if not names:
        raise DatasetError(f"{path} is empty; expected one name per line")
    return names


def youtube_id(path: Path) -> str:
    """Return the YouTube ID of a file that is named as in Kinetics, else an empty string.

    IDs have 11 characters and may contain ``-`` and ``_``.

    Example:
        >>> youtube_id(Path("abseiling/-3B32lo_o2M_000059_000069.mp4"))
        '-3B32lo_o2M'
    """
    match = _CLIP_NAME.fullmatch(path.stem)
    return match[1] if match else ""


class ClipLookup:
    """Find the clips that a file contains by its name, in any folder.

    The first 11 characters of the name are the ID. If a video has only one clip, the ID is enough, as in CVDF's own
    script. If it has several (Kinetics-600 and later), the start time must match.

    Example:
        >>> clip = KineticsClip("0wR5jVB-WPk", 417, 427, "val", "abseiling")
        >>> lookup = ClipLookup([clip])
        >>> [len(lookup.clips_of(name)) for name in ("0wR5jVB-WPk_000417_000427", "0wR5jVB-WPk", "0wR5jVB")]
        [1, 1, 0]
    """

    def __init__(self, clips: Collection[KineticsClip]):
        self._by_id: dict[str, tuple[KineticsClip, ...]] = {}
        for clip in clips:
            self._by_id[clip.youtube_id] = (*self._by_id.get(clip.youtube_id, ()), clip)

    def clips_of(self, stem: str) -> tuple[KineticsClip, ...]:
        """Return the clips of a file ``stem.mp4``: none if unknown, several if the clip has several labels."""
        clips = self._by_id.get(stem[:_ID_LENGTH], ())
        start = start_of(stem)
        exact = tuple(clip for clip in clips if int(clip.start_seconds) == start)
        if exact:
            return exact
        return clips if len({clip.start_seconds for clip in clips}) == 1 else ()


def start_of(stem: str) -> int | None:
    """Return the start in seconds from the name of a file, or None if it has none.

    Example:
        >>> start_of("0wR5jVB-WPk_000417_000427"), start_of("0wR5jVB-WPk")
        (417, None)
    """
    times = re.fullmatch(r"_(\d+)_(\d+)", stem[_ID_LENGTH:])
    return int(times[1]) if times else None


def _columns(path: Path, header: Sequence[str], split: str | None) -> Mapping[str, int]:
    """Find the position of each column."""
    names = [name.strip().lower() for name in header]
    missing = [name for name in _REQUIRED if name not in names]
    if "split" not in names and split is None:
        missing.append("split")
    if missing:
        raise DatasetError(
            f"{path} has no column {' and no column '.join(missing)}; its first line is "
            f"{','.join(header)[:200]!r}; expected {_EXPECTED_HEADER}"
        )
    for name in (*_REQUIRED, "label", "split"):
        if names.count(name) > 1:
            raise DatasetError(f"{path} has {names.count(name)} columns {name}; expected one")
    return {name: names.index(name) for name in (*_REQUIRED, "label", "split") if name in names}


def _clip(row: Mapping[str, str], label_of_name: Mapping[str, str], split: str | None) -> KineticsClip:
    word = row.get("split", split) or ""
    if word.lower() not in SPLIT_WORDS:
        raise DatasetError(f"split is {word!r}; expected train, val (or validate) or test")
    times = []
    for column in ("time_start", "time_end"):
        if not _SECONDS.fullmatch(row[column]):
            raise DatasetError(f"{column} is {row[column]!r}; expected seconds, for example 417 or 41.5")
        times.append(float(row[column]))
    label = row.get("label") or None
    if label is None and "label" in row and SPLIT_WORDS[word.lower()] != "test":
        raise DatasetError("the label is empty")
    if label is not None and label_of_name:
        known = label_of_name.get(label) or label_of_name.get(normalize_name(label))
        if known is None:
            classes = set(label_of_name.values())
            near = difflib.get_close_matches(label, classes, n=2)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise DatasetError(f"unknown class {label!r}{hint} (expected one of {len(classes)} classes)")
        label = known
    return KineticsClip(row["youtube_id"], times[0], times[1], SPLIT_WORDS[word.lower()], label)
