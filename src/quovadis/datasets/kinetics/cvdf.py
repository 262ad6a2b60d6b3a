"""Kinetics from CVDF's archives: tars of clips, with a set that replaces the corrupt ones.

The Common Visual Data Foundation hosts the clips of Kinetics-400, -600 and -700-2020. The addresses below are those of
the README and the scripts of github.com/cvdfoundation/kinetics-dataset (read at commit e6bea42); what the archives are
called is in lists that lie beside them, one for each split. Kinetics-400 comes in numbered parts of flat folders, with
a replacement set for about 1,400 corrupt clips; the train and val archives of Kinetics-600 hold a class each and are
called after it.
"""

import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

from quovadis.datasets.kinetics.annotations import ClipLookup, KineticsClip
from quovadis.datasets.kinetics.archives import extract_videos, is_archive
from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.datasets.kinetics.clip_status import ClipStatus, DownloadReport, StatusTable
from quovadis.errors import DatasetError, DownloadError, UnknownNameError
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.download import RetryPolicy, download
from quovadis.runtime.locks import FolderLock
from quovadis.runtime.scratch import scratch_folder, storage_errors
from quovadis.runtime.thread_jobs import Progress, ProgressCounter, WorkStopped, in_parallel

_ARCHIVE_PATH = re.compile(r"\w+/\w+/[^./\\\0][^/\\\0]*\.(tar\.gz|tgz|tar)")
CVDF_URL = "https://s3.amazonaws.com/kinetics"
_TOO_MANY_FAILURES = 3
"""Archives in a row that cannot be fetched: then it is the connection."""


@dataclass(frozen=True)
class CvdfRelease:
    """Where CVDF keeps one version; paths under ``CVDF_URL``."""

    folder: str
    prefix: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    """By split, those that are whole. Kinetics-600 has none for train and val: CVDF says its CSVs are incomplete."""
    replacement: str = ""

    def archive_list(self, split: str) -> str:
        """The list of the archives of a split."""
        return f"{self.folder}/{split}/{self.prefix}_{split}_path.txt"


RELEASES: Mapping[str, CvdfRelease] = MappingProxyType(
    {
        "kinetics400": CvdfRelease(
            "400",
            "k400",
            {split: f"400/annotations/{split}.csv" for split in ("train", "val", "test")},
            "400/replacement_for_corrupted_k400.tgz",
        ),
        "kinetics600": CvdfRelease("600", "k600", {"test": "600/annotations/test.csv"}),
        "kinetics700": CvdfRelease(
            "700_2020",
            "k700_2020",
            {split: f"700_2020/annotations/{split}.csv" for split in ("train", "val", "test")},
        ),
    }
)


def fetch_annotations(
    name: str, split: str, folder: Path, *, mirror: str = CVDF_URL, patience: RetryPolicy | None = None
) -> Path:
    """The annotation file of a split, from CVDF; fetched once.

    Raises:
        UnknownNameError: no such version. DatasetError: CVDF has no whole one. DownloadError: it cannot be fetched.
    """
    release = _release(name)
    if split not in release.annotations:
        raise DatasetError(
            f"CVDF's annotations of {name} {split} are incomplete: give the file of the original release with "
            "--annotations (github.com/activitynet/ActivityNet, Crawler/Kinetics/data)"
        )
    url = _address(release.annotations[split], mirror)
    return download(url, folder / "annotations" / f"{split}.csv", _problem_with_annotations, patience=patience)


def download_from_cvdf(
    name: str,
    clips: Collection[KineticsClip],
    folder: Path,
    *,
    num_workers: int = 2,
    keep_archives: bool = False,
    mirror: str = CVDF_URL,
    patience: RetryPolicy | None = None,
    progress: Progress | None = None,
) -> DownloadReport:
    """Download clips from CVDF's archives into a folder.

    Archives are fetched (going on where a connection was cut), taken apart and removed. The replacement set goes first
    and over what is there, so no corrupt clip gets in its place. Killed at any moment and started again, it goes on
    where it was. An archive of a single class that is not wanted is not fetched.

    Args:
        name: kinetics400, kinetics600 or kinetics700 (the 2020 edition).
        clips: what to take, as :func:`~quovadis.datasets.kinetics.annotations.select` gives it.
        folder: where to; only one process at a time. The archives lie in its ``.cvdf`` meanwhile.
        num_workers: archives at a time.
        keep_archives: do not remove them.
        mirror: an address that serves the same files under the same paths.
        patience: how often to try and how long to wait.
        progress: told after every archive.

    Returns:
        The report; its ``problems`` are archives that are damaged or not to be trusted. A clip that no archive holds
        is ``absent``.

    Raises:
        UnknownNameError: no such version. StorageError: the disk is full, or another process works there.
        DownloadError: no connection. In either case what is done is kept.
    """
    release = _release(name)
    splits = sorted({clip.split for clip in clips})
    with FolderLock(folder, "download from CVDF"), StatusTable(folder) as table, scratch_folder(folder) as scratch:
        job = _Job(clips, folder, scratch, table, mirror, keep_archives, patience or RetryPolicy())
        if release.replacement:
            job.take(_Archive(release.replacement, "replacement", replaces=True))
        archives = [
            archive
            for split in splits
            for archive in job.archives(release.archive_list(split), split)
            if not _is_of_another_class(archive, name, clips)
        ]
        meter = ProgressCounter(len(archives), progress)

        def work(archive: _Archive) -> None:
            job.take(archive)
            meter.step()

        in_parallel(work, archives, num_workers, job.stop)
        if not job.problems:
            job.note_absent_clips()
    return DownloadReport.of(clips, folder, job.problems)


@dataclass(frozen=True)
class _Archive:
    path: str
    """Under ``CVDF_URL``."""
    split: str
    replaces: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class _Job:
    """What the workers share."""

    def __init__(
        self,
        clips: Collection[KineticsClip],
        folder: Path,
        scratch: Path,
        table: StatusTable,
        mirror: str,
        keep_archives: bool,
        patience: RetryPolicy,
    ):
        self._clips, self._folder, self._scratch, self._table = clips, folder, scratch, table
        self._mirror, self._keep_archives, self._patience = mirror, keep_archives, patience
        self._home = folder / ".cvdf"
        self._lookups = {s: ClipLookup([c for c in clips if c.split == s]) for s in {c.split for c in clips}}
        self._lookups["replacement"] = ClipLookup(clips)
        self._number = itertools.count()
        self._failures_in_a_row = 0
        self.problems: list[str] = []
        self.stop = threading.Event()

    def archives(self, path: str, split: str) -> list[_Archive]:
        """The archives that a list names."""
        target = self._home / path.rpartition("/")[2]
        file = download(_address(path, self._mirror), target, _problem_with_list, patience=self._patience)
        return [_Archive(path, split) for path in _listed_archives(file)]

    def take(self, archive: _Archive) -> None:
        """Fetch an archive, take it apart, remove it; what cannot be used is a problem, and the others go on."""
        marker = self._home / archive.split / f"{archive.name}.json"
        if not self._is_open(archive, marker):
            return
        local = self._home / archive.split / archive.name
        try:
            url = _address(archive.path, self._mirror)
            download(url, local, _problem_with_archive, progress=self._go_on, patience=self._patience)
        except DownloadError as error:
            self._failures_in_a_row += 1
            if self._failures_in_a_row == _TOO_MANY_FAILURES:
                raise
            self.problems.append(str(error))
            return
        self._failures_in_a_row = 0
        with storage_errors(self._folder):
            try:
                stems = self._take_apart(archive, local)
            except (DatasetError, DownloadError) as error:
                rejected = local.with_name(local.name + ".rejected")
                os.replace(local, rejected)
                self.problems.append(f"{error} (kept as {rejected.name}; run it again to fetch it anew)")
                return
            write_atomically(marker, json.dumps(stems))
            if not self._keep_archives:
                local.unlink()

    def note_absent_clips(self) -> None:
        """A row for every clip that no archive holds."""
        for clip in self._clips:
            row = self._table.get(str(clip.path))
            if not self._has(clip) and (row is None or row.status != "absent"):
                self._table.record(ClipStatus(str(clip.path), "absent", "cvdf", "no archive of CVDF holds it"))

    def _go_on(self, *_: object) -> None:
        """Leave a large archive in the middle when all work ends; it goes on from there the next time."""
        if self.stop.is_set():
            raise WorkStopped

    def _is_open(self, archive: _Archive, marker: Path) -> bool:
        """Was it never taken apart, or does it hold clips that are wanted now and were not then?"""
        try:
            stems = json.loads(marker.read_text())
        except (OSError, ValueError):
            return True
        clips = [clip for stem in stems for clip in self._lookups[archive.split].clips_of(stem)]
        return any(self._wants(clip, archive) for clip in clips)

    def _wants(self, clip: KineticsClip, archive: _Archive) -> bool:
        if not archive.replaces:
            return not self._has(clip)
        row = self._table.get(str(clip.path))
        return not self._has(clip) or row is None or row.source != archive.name

    def _has(self, clip: KineticsClip) -> bool:
        """Is the clip there? If it is, it has a row afterwards."""
        if not (self._folder / clip.path).is_file():
            return False
        row = self._table.get(str(clip.path))
        if row is None or not row.done:  # killed between the file and its row, or from elsewhere
            self._table.record(ClipStatus(str(clip.path), "ok", "found", "was there"))
        return True

    def _take_apart(self, archive: _Archive, local: Path) -> list[str]:
        lookup = self._lookups[archive.split]

        def place(stem: str) -> Path | None:
            self._go_on()
            wanted = any(self._wants(clip, archive) for clip in lookup.clips_of(stem))
            return self._scratch / f"{next(self._number)}.mp4" if wanted else None

        def written(stem: str, partial: Path) -> None:
            *others, last = [clip for clip in lookup.clips_of(stem) if self._wants(clip, archive)]
            for clip in others:  # of several classes
                copy = self._scratch / f"{next(self._number)}.mp4"
                self._put(Path(shutil.copyfile(partial, copy)), clip, archive)
            self._put(partial, last, archive)

        return extract_videos(local, place, written)

    def _put(self, partial: Path, clip: KineticsClip, archive: _Archive) -> None:
        if partial.stat().st_size == 0:
            self._table.record(ClipStatus(str(clip.path), "absent", archive.name, "empty in the archive"))
            return
        target = self._folder / clip.path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, target)
        self._table.record(ClipStatus(str(clip.path), "ok", archive.name))


def _release(name: str) -> CvdfRelease:
    if name not in RELEASES:
        raise UnknownNameError.among("dataset of CVDF", name, RELEASES)
    return RELEASES[name]


def _is_of_another_class(archive: _Archive, name: str, clips: Collection[KineticsClip]) -> bool:
    label = archive.name.removesuffix(".tar.gz")
    return label in class_labels(name) and label not in {clip.label for clip in clips}


def _address(path: str, mirror: str) -> str:
    """Where to fetch a path; the lists of Kinetics-600 have spaces in them."""
    return f"{mirror.rstrip('/')}/{quote(path)}"


def _listed_archives(file: Path) -> list[str]:
    """The paths that a list of archives names.

    Raises:
        DatasetError: an address elsewhere, or a name that is none of an archive.
    """
    paths = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        address = unquote(line.strip())
        if not address:
            continue
        path = address.removeprefix(f"{CVDF_URL}/")
        if not _ARCHIVE_PATH.fullmatch(path):
            raise DatasetError(f"{file} lists {address!r}; expected archives under {CVDF_URL}: remove the file")
        paths.append(path)
    return paths


def _problem_with_list(file: Path) -> str:
    begin = file.read_text(encoding="utf-8", errors="replace").lstrip()[: len(CVDF_URL)]
    return "" if begin == CVDF_URL else f"a list of archives begins with {CVDF_URL}, this with {begin[:40]!r}"


def _problem_with_annotations(file: Path) -> str:
    with file.open("rb") as opened:
        first = opened.readline(1000)
    return "" if b"youtube_id" in first else f"its first line has no column youtube_id: {first[:80]!r}"


def _problem_with_archive(file: Path) -> str:
    return "" if is_archive(file) else "it is no tar archive"
