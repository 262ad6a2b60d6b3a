"""Kinetics clips from YouTube: fetch the video, cut the clip, say what became of it."""

import itertools
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from quovadis.datasets.kinetics.annotations import KineticsClip
from quovadis.datasets.kinetics.clip_status import FINAL, ClipStatus, DownloadReport, StatusTable
from quovadis.datasets.kinetics.yt_dlp import Extractor, FetchFailure
from quovadis.errors import QuovadisError, StorageError, TooFewFramesError
from quovadis.runtime.backoff import Backoff
from quovadis.runtime.locks import FolderLock
from quovadis.runtime.scratch import scratch_folder, storage_errors
from quovadis.runtime.thread_jobs import Progress, ProgressCounter, in_parallel
from quovadis.video.trim import trim_video

SOURCE = "youtube"
SHORT_BY_SECONDS = 1.0
"""A clip that lacks more is counted as short. CVDF draws the same line: under 9 of 10 seconds."""


def download_from_youtube(
    clips: Collection[KineticsClip],
    folder: Path,
    extractor: Extractor,
    *,
    num_workers: int = 4,
    retry: bool = False,
    pace: Backoff | None = None,
    progress: Progress | None = None,
) -> DownloadReport:
    """Clips from YouTube into a folder, each at its :attr:`~quovadis.datasets.kinetics.annotations.KineticsClip.path`.

    A clip is cut to the frame and written without sound (:func:`~quovadis.video.trim.trim_video`). It appears whole,
    and the table ``download.jsonl`` says of every clip what became of it. Killed at any moment and started again, it
    goes on with the clips that are neither there nor known to be gone; no clip is fetched twice. Where the service
    refuses, all workers slow down together.

    Args:
        clips: what to fetch, as :func:`~quovadis.datasets.kinetics.annotations.select` gives it.
        folder: where to; only one process at a time.
        extractor: brings a video by its id: :class:`~quovadis.datasets.kinetics.yt_dlp.YtDlpExtractor`.
        num_workers: videos at a time.
        retry: also ask again for videos that were private, removed, blocked ...
        pace: how long to wait for a service that refuses; one for each call.
        progress: told after every clip.

    Raises:
        StorageError: the disk is full, or another process works there. DownloadError: the service goes on refusing.
            In either case what is done is kept.
    """
    pace = pace or Backoff()
    with FolderLock(folder, "download from YouTube"), StatusTable(folder) as table, scratch_folder(folder) as scratch:
        todo = [clip for clip in clips if _is_open(clip, folder, table, retry)]
        job = _Job(folder, scratch, extractor, table, pace, ProgressCounter(len(todo), progress))
        in_parallel(job.bring, todo, num_workers, pace.stopped)
    return DownloadReport.of(clips, folder)


def _is_open(clip: KineticsClip, folder: Path, table: StatusTable, retry: bool) -> bool:
    """Is there anything to do for the clip? One that is there gets its row."""
    key = str(clip.path)
    row = table.get(key)
    if (folder / clip.path).is_file():
        if row is None or not row.done:  # killed between the file and its row, or from elsewhere
            table.record(ClipStatus(key, "ok", "found", "was there"))
        return False
    return retry or row is None or row.source != SOURCE or row.status not in FINAL


class _Job:
    """What the workers share."""

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        extractor: Extractor,
        table: StatusTable,
        pace: Backoff,
        meter: ProgressCounter,
    ):
        self._folder, self._scratch, self._extractor = folder, scratch, extractor
        self._table, self._pace, self._meter = table, pace, meter
        self._number = itertools.count()

    def bring(self, clip: KineticsClip) -> None:
        """Bring one clip and write its row; a service that refuses is asked again until the pace gives it up."""
        while True:
            turn = self._pace.wait()
            if self._pace.stopped.is_set():
                return
            try:
                row = self._fetch_and_cut(clip)
            except FetchFailure as failure:
                self._table.record(ClipStatus(str(clip.path), failure.status, SOURCE, failure.reason))
                if failure.status == "rate-limited":
                    self._pace.refused(turn, failure.reason)
                    continue
                if failure.status == "network":
                    self._pace.failed(turn, failure.reason)
                else:
                    self._pace.answered(turn)
            else:
                self._pace.answered(turn)
                self._table.record(row)
            self._meter.step()
            return

    def _fetch_and_cut(self, clip: KineticsClip) -> ClipStatus:
        home = self._scratch / str(next(self._number))
        cut = home / "clip.mp4"
        target = self._folder / clip.path
        wanted = clip.end_seconds - clip.start_seconds
        try:
            with storage_errors(target):
                (home / "video").mkdir(parents=True)
                video = self._extractor.fetch(clip.youtube_id, home / "video")
                seconds = trim_video(video, cut, clip.start_seconds, clip.end_seconds)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(cut, target)
        except StorageError:
            raise
        except TooFewFramesError as error:
            raise FetchFailure("too-short", str(error).replace(str(video), "the video")) from error
        except QuovadisError as error:
            raise FetchFailure("damaged", str(error).replace(str(home), "")) from error
        finally:
            shutil.rmtree(home, ignore_errors=True)
        status = "short" if seconds < wanted - SHORT_BY_SECONDS else "ok"
        return ClipStatus(str(clip.path), status, SOURCE, f"{seconds:g} of {wanted:g} s" * (status == "short"), seconds)
