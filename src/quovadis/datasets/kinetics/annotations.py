"""Kinetics-400, -600 and -700: their annotation files, and how their clips are named.

The columns are those of the published files: ``label,youtube_id,time_start,time_end,split,is_cc`` for
Kinetics-400, without ``is_cc`` for the later ones, without ``label`` for most test files; Kinetics-700 says
``validate`` where the others say ``val``. ``is_cc`` is not used. CVDF's ``train.txt`` and ``val.txt`` of Kinetics-600
are described nowhere that we could find; they are read if they have these columns, and refused otherwise.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path, PurePosixPath

from quovadis.datasets.class_names import plain_name
from quovadis.datasets.kinetics.class_names import LABEL_SETS
from quovadis.datasets.manifest import SPLIT_WORDS, SPLITS
from quovadis.datasets.text_files import read_text
from quovadis.errors import DatasetError, UnknownNameError

KINETICS = tuple(LABEL_SETS)
"""The names: kinetics400, kinetics600, kinetics700."""
ID_LENGTH = 11

_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_SECONDS = re.compile(r"\d{1,9}(\.\d{0,9})?")
_REQUIRED = ("youtube_id", "time_start", "time_end")
_EXPECTED_HEADER = "label,youtube_id,time_start,time_end,split[,is_cc], test files also without label"


@dataclass(frozen=True)
class KineticsClip:
    """One row of an annotation file: a stretch of a YouTube video.

    Raises:
        DatasetError: an id that is none, an end that is not after the start, a label that cannot be a folder.
        UnknownNameError: no such split.

    >>> KineticsClip("-3B32lodo2M", 59, 69, "val", "abseiling").path.as_posix()
    'abseiling/-3B32lodo2M_000059_000069.mp4'
    """

    youtube_id: str
    start_seconds: float
    end_seconds: float
    split: str
    """train, val or test."""
    label: str | None = None
    """None where the file does not tell, as most test files."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.youtube_id):
            raise DatasetError(
                f"{self.youtube_id!r} is no YouTube id: expected {ID_LENGTH} letters, digits, '-' or '_', nothing else"
            )
        if not 0 <= self.start_seconds < self.end_seconds < float("inf"):
            raise DatasetError(
                f"{self.youtube_id} goes from {self.start_seconds:g} s to {self.end_seconds:g} s: the end must come "
                "after the start"
            )
        if self.split not in SPLITS:
            raise UnknownNameError.among("split", self.split, SPLITS)
        if self.label is not None and (problem := _problem_with_label(self.label)):
            raise DatasetError(f"the label {self.label!r} cannot be the name of a folder: it {problem}")

    @property
    def stem(self) -> str:
        """Name of the file without its ending: id, start and end in whole seconds, as the crawlers write it."""
        return f"{self.youtube_id}_{int(self.start_seconds):06d}_{int(self.end_seconds):06d}"

    @property
    def path(self) -> PurePosixPath:
        """Where it lies in the folder of the dataset: in the folder of its class, or of its split if it has none."""
        return PurePosixPath(self.label or self.split) / f"{self.stem}.mp4"


@cache
def _problem_with_label(label: str) -> str:
    if not label.strip() or label != label.strip():
        return "is empty or has spaces at an end"
    if label.startswith("."):
        return "begins with a dot"
    if any(c in '/\\:*?"<>|' or not c.isprintable() for c in label):
        return "has a character that would leave the folder or that no folder may have"
    return ""


def read_annotations(
    path: str | PathLike[str], *, labels: Sequence[str] = (), split: str | None = None
) -> tuple[KineticsClip, ...]:
    """The clips that an annotation file lists, in its order; what it lists twice comes twice.

    Args:
        path: a CSV file, also compressed (``.gz``), with the columns above in any order; others are ignored.
        labels: the classes that may occur; none for any. A name with underscores for spaces, or without its
            punctuation, is understood.
        split: the split of a file that has no such column.

    Raises:
        DatasetError: no such file, a wrong header, or a row that cannot be used: says file, line, and what is wrong.

    >>> path = getfixture("tmp_path") / "val.csv"
    >>> rows = ['label,youtube_id,time_start,time_end,split', '"air drumming",_dbcJuKJQNs,40,50,validate']
    >>> _ = path.write_text(chr(10).join(rows))
    >>> read_annotations(path, labels=["air drumming"])[0]
    KineticsClip(youtube_id='_dbcJuKJQNs', start_seconds=40.0, end_seconds=50.0, split='val', label='air drumming')
    """
    path = Path(path)
    rows = read_text(path).rows()
    _, header = next(rows, ("", []))
    columns = _columns(path, header, split)
    spelling = {plain_name(label): label for label in labels} | {label: label for label in labels}
    clips = []
    for where, cells in rows:
        if len(cells) != len(header):
            raise DatasetError(f"{where}: {len(cells)} cells; the header has {len(header)}")
        row = {name: cells[place].strip() for name, place in columns.items()}
        try:
            clips.append(_clip(row, spelling, split))
        except DatasetError as error:
            raise DatasetError(f"{where}: {error}") from None
    if not clips:
        raise DatasetError(f"{path} has a header and no rows")
    return tuple(clips)


def select(
    clips: Sequence[KineticsClip],
    *,
    split: str | None = None,
    classes: Collection[str] = (),
    youtube_ids: Collection[str] = (),
    limit: int | None = None,
) -> tuple[KineticsClip, ...]:
    """Some of the clips, each once, in their order.

    ``classes`` makes a mini-Kinetics: the paper's first version had one of 213 classes, whose names were never
    published. Mini-Kinetics-200 (of the S3D paper) also chooses clips, by ``youtube_ids``.

    Raises:
        DatasetError: nothing is left, or two different clips would be one file. UnknownNameError: a class that no clip
            has.
    """
    there = {clip.label for clip in clips if clip.label}
    for name in classes:
        if name not in there:
            raise UnknownNameError.among("class", name, there)
    wanted_classes, wanted_ids = frozenset(classes), frozenset(youtube_ids)
    chosen = [
        clip
        for clip in dict.fromkeys(clips)
        if (split is None or clip.split == split)
        and (not wanted_classes or clip.label in wanted_classes)
        and (not wanted_ids or clip.youtube_id in wanted_ids)
    ][:limit]
    if not chosen:
        raise DatasetError(
            f"none of the {len(clips)} clips is wanted: "
            f"split {split or 'any'}, {len(wanted_classes) or 'all'} classes, {len(wanted_ids) or 'all'} ids"
        )
    home: dict[PurePosixPath, KineticsClip] = {}
    for clip in chosen:
        if home.setdefault(clip.path, clip) != clip:
            raise DatasetError(f"{home[clip.path]} and {clip} would be one file, {clip.path}: leave one of them out")
    return tuple(chosen)


def read_names(path: str | PathLike[str]) -> tuple[str, ...]:
    """The lines of a list of classes or of YouTube ids, without empty ones; the file may be compressed (``.gz``).

    Raises:
        DatasetError: no such file, or nothing in it.
    """
    names = tuple(dict.fromkeys(line for _, line in read_text(Path(path)).lines()))
    if not names:
        raise DatasetError(f"{path} is empty; expected a name a line")
    return names


class ClipLookup:
    """From the name of a file to the clips that it holds, whatever the folder that it lies in.

    The id is the first 11 characters of the name, never what stands before an underscore, because ids have those too.
    Where a video has one clip only, the id is enough, as in CVDF's own script; where it has several (Kinetics-600 and
    later), the start must agree.

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
        """The clips of a file ``stem.mp4``; none if it is none of these, more than one if it has several labels."""
        clips = self._by_id.get(stem[:ID_LENGTH], ())
        start = start_of(stem)
        exact = tuple(clip for clip in clips if int(clip.start_seconds) == start)
        if exact:
            return exact
        return clips if len({clip.start_seconds for clip in clips}) == 1 else ()


def start_of(stem: str) -> int | None:
    """The start in seconds that the name of a file carries, padded with zeros or not.

    >>> start_of("0wR5jVB-WPk_000417_000427"), start_of("0wR5jVB-WPk")
    (417, None)
    """
    times = re.fullmatch(r"_(\d+)_(\d+)", stem[ID_LENGTH:])
    return int(times[1]) if times else None


def _columns(path: Path, header: Sequence[str], split: str | None) -> Mapping[str, int]:
    """Where each column stands."""
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


def _clip(row: Mapping[str, str], spelling: Mapping[str, str], split: str | None) -> KineticsClip:
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
    if label is not None and spelling:
        known = spelling.get(label) or spelling.get(plain_name(label))
        if known is None:
            classes = set(spelling.values())
            near = difflib.get_close_matches(label, classes, n=2)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise DatasetError(f"unknown class {label!r}{hint} ({len(classes)} classes are known)")
        label = known
    return KineticsClip(row["youtube_id"], times[0], times[1], SPLIT_WORDS[word.lower()], label)
