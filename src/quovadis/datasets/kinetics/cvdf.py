"""Download clips of Kinetics from the archives of CVDF, including the archive that replaces corrupt clips."""

import json
import os
import shutil
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from quovadis.datasets.kinetics.annotations import ClipLookup, KineticsClip
from quovadis.datasets.kinetics.archives import extract_videos
from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.datasets.kinetics.clip_folder import ClipFolder, open_clip_folder
from quovadis.datasets.kinetics.clip_status import DownloadReport
from quovadis.datasets.kinetics.cvdf_releases import (
    CVDF_URL,
    CvdfArchive,
    find_release,
    list_archives,
    problem_with_archive,
    url_of,
)
from quovadis.errors import DatasetError, DownloadError
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.download import RetryPolicy, download
from quovadis.runtime.scratch import storage_errors
from quovadis.runtime.thread_jobs import Progress, ProgressCounter, WorkStopped, in_parallel

_MAX_CONSECUTIVE_FAILURES = 3
"""After this many failed downloads in a row the connection is considered lost."""


def download_from_cvdf(
    name: str,
    clips: Collection[KineticsClip],
    folder: Path,
    *,
    num_workers: int = 2,
    keep_archives: bool = False,
    mirror: str = CVDF_URL,
    retry_policy: RetryPolicy | None = None,
    progress: Progress | None = None,
) -> DownloadReport:
    """Download clips from the archives of CVDF.

    Archives are downloaded, extracted and deleted. The archive that replaces corrupt clips comes first and overwrites
    existing clips. An interrupted download can be repeated; it continues where it stopped. Archives of a single class
    that is not requested are skipped.

    Args:
        name: ``kinetics400``, ``kinetics600`` or ``kinetics700`` (the 2020 edition).
        clips: The clips, usually from :func:`~quovadis.datasets.kinetics.annotations.select_clips`.
        folder: Output folder. Archives are stored in its subfolder ``.cvdf`` meanwhile.
        num_workers: Number of archives processed at once.
        keep_archives: Do not delete the archives.
        mirror: URL that serves the same paths as ``CVDF_URL``.
        retry_policy: Number of attempts and wait times.
        progress: Callback, called after every archive with the number of archives done and in all.

    Returns:
        A report with the number of clips by status. Its ``problems`` are archives that are damaged or unsafe. Clips
        that no archive contains have the status ``absent``.

    Raises:
        UnknownNameError: If CVDF does not host this dataset.
        StorageError: If the disk is full, or another process uses the folder. Finished clips are kept.
        DownloadError: If there is no connection. Finished clips are kept.

    Example:
        >>> from quovadis.datasets.kinetics.annotations import read_annotations, select_clips
        >>> from quovadis.datasets.kinetics.cvdf_releases import download_annotations
        >>> def download_validation_set(folder: Path) -> DownloadReport:
        ...     annotations = read_annotations(download_annotations("kinetics400", "val", folder))
        ...     return download_from_cvdf("kinetics400", select_clips(annotations), folder)

    References:
        https://github.com/cvdfoundation/kinetics-dataset
    """
    release = find_release(name)
    labels = {clip.label for clip in clips}
    with open_clip_folder(folder, "download from CVDF") as output:
        job = _Job(clips, output, mirror, retry_policy or RetryPolicy(), keep_archives)
        if release.replacement:
            job.process(CvdfArchive(release.replacement, "replacement"))
        archives = [
            archive
            for split in sorted({clip.split for clip in clips})
            for archive in list_archives(release, split, job.folder, mirror=mirror, retry_policy=job.retry_policy)
            if (label := archive.name.removesuffix(".tar.gz")) not in class_labels(name) or label in labels
        ]
        counter = ProgressCounter(len(archives), progress)

        def process(archive: CvdfArchive) -> None:
            job.process(archive)
            counter.step()

        in_parallel(process, archives, num_workers, job.stop)
        if not job.failures.problems:
            job.record_absent_clips()
    return DownloadReport.of(clips, folder, job.failures.problems)


@dataclass
class _Failures:
    """Failures so far, shared by the workers."""

    problems: list[str] = field(default_factory=list)
    num_consecutive: int = 0


@dataclass(frozen=True)
class _Job:
    """Settings and state that the workers of one download share."""

    clips: Collection[KineticsClip]
    output: ClipFolder
    mirror: str
    retry_policy: RetryPolicy
    keep_archives: bool = False
    failures: _Failures = field(default_factory=_Failures)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def folder(self) -> Path:
        """Folder of the archives."""
        return self.output.root / ".cvdf"

    @cached_property
    def lookups(self) -> dict[str, ClipLookup]:
        """Clips by the split of their archive."""
        splits = {clip.split for clip in self.clips}
        by_split = {split: ClipLookup([c for c in self.clips if c.split == split]) for split in splits}
        return by_split | {"replacement": ClipLookup(self.clips)}

    def process(self, archive: CvdfArchive) -> None:
        """Download, extract and delete an archive; an archive that cannot be used is noted as a problem."""
        content_list = self.folder / archive.split / f"{archive.name}.json"
        if not self._is_pending(archive, content_list):
            return
        file = self.folder / archive.split / archive.name
        try:
            url = url_of(archive.path, self.mirror)
            download(url, file, problem_with_archive, progress=self._raise_if_stopped, retry_policy=self.retry_policy)
        except DownloadError as error:
            self.failures.num_consecutive += 1
            if self.failures.num_consecutive == _MAX_CONSECUTIVE_FAILURES:
                raise
            self.failures.problems.append(str(error))
            return
        self.failures.num_consecutive = 0
        with storage_errors(self.output.root):
            try:
                stems = self._extract(archive, file)
            except (DatasetError, DownloadError) as error:
                rejected = file.with_name(file.name + ".rejected")
                os.replace(file, rejected)
                self.failures.problems.append(
                    f"{error} (kept as {rejected.name}; run the command again to download it again)"
                )
                return
            write_atomically(content_list, json.dumps(stems))
            if not self.keep_archives:
                file.unlink()

    def record_absent_clips(self) -> None:
        """Set the status ``absent`` for every clip that no archive contains."""
        for clip in self.clips:
            status = self.output.status(clip)
            if not self.output.contains(clip) and (status is None or status.status != "absent"):
                self.output.record(clip, "absent", "cvdf", "not in the archives of CVDF")

    def _raise_if_stopped(self, *_: object) -> None:
        """Interrupt the download of a large archive; the next run resumes it."""
        if self.stop.is_set():
            raise WorkStopped

    def _is_pending(self, archive: CvdfArchive, content_list: Path) -> bool:
        """Return True if the archive was never extracted, or contains clips that are needed now."""
        try:
            stems = json.loads(content_list.read_text())
        except (OSError, ValueError):
            return True
        clips = [clip for stem in stems for clip in self.lookups[archive.split].clips_of(stem)]
        return any(self._is_needed(clip, archive) for clip in clips)

    def _is_needed(self, clip: KineticsClip, archive: CvdfArchive) -> bool:
        if not self.output.contains(clip):
            return True
        status = self.output.status(clip)
        return archive.is_replacement and (status is None or status.source != archive.name)

    def _extract(self, archive: CvdfArchive, file: Path) -> list[str]:
        """Extract the needed clips; returns the names of all clips in the archive."""

        def needed_clips(stem: str) -> list[KineticsClip]:
            clips = self.lookups[archive.split].clips_of(stem)
            return [clip for clip in clips if self._is_needed(clip, archive)]

        def choose_path(stem: str) -> Path | None:
            self._raise_if_stopped()
            return self.output.scratch_path(".mp4") if needed_clips(stem) else None

        def move_in(stem: str, extracted: Path) -> None:
            *others, last = needed_clips(stem)
            for clip in others:  # the same segment with another class
                copy = self.output.scratch_path(".mp4")
                self._add(Path(shutil.copyfile(extracted, copy)), clip, archive)
            self._add(extracted, last, archive)

        return extract_videos(file, choose_path, move_in)

    def _add(self, extracted: Path, clip: KineticsClip, archive: CvdfArchive) -> None:
        if extracted.stat().st_size == 0:
            self.output.record(clip, "absent", archive.name, "empty in the archive")
            return
        self.output.move_in(extracted, clip)
        self.output.record(clip, "ok", archive.name)
