"""Download clips of Kinetics from YouTube: fetch the video, trim it to the clip, record the result."""

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from quovadis.datasets.kinetics.annotations import KineticsClip
from quovadis.datasets.kinetics.clip_folder import ClipFolder, open_clip_folder
from quovadis.datasets.kinetics.clip_status import PERMANENT, DownloadReport
from quovadis.datasets.kinetics.yt_dlp import FetchFailure, VideoFetcher
from quovadis.errors import QuovadisError, StorageError, TooFewFramesError
from quovadis.runtime.backoff import Backoff
from quovadis.runtime.scratch import storage_errors
from quovadis.runtime.thread_jobs import Progress, ProgressCounter, in_parallel
from quovadis.video.trim import trim_video

SOURCE = "youtube"
MAX_MISSING_SECONDS = 1.0
"""A clip that is shorter than listed by more than this has the status ``short``, as in CVDF's own script."""


def download_from_youtube(
    clips: Collection[KineticsClip],
    folder: Path,
    fetcher: VideoFetcher,
    *,
    num_workers: int = 4,
    retry: bool = False,
    backoff: Backoff | None = None,
    progress: Progress | None = None,
) -> DownloadReport:
    """Download clips from YouTube.

    Each clip is trimmed to the frame, written without sound and moved into place when it is complete. Its status is
    recorded in ``download.jsonl``. An interrupted download can be repeated; it continues with the clips that neither
    exist nor are known to be gone. If YouTube refuses requests, all workers slow down together.

    Args:
        clips: The clips, usually from :func:`~quovadis.datasets.kinetics.annotations.select_clips`.
        folder: Output folder; each clip is written to its :attr:`KineticsClip.path` inside.
        fetcher: Downloads a video by its ID, usually :class:`~quovadis.datasets.kinetics.yt_dlp.YtDlpFetcher`.
        num_workers: Number of videos downloaded at once.
        retry: Try videos again that were private, removed, blocked ...
        backoff: Wait times if YouTube refuses requests; use a new one for each call.
        progress: Callback, called after every clip with the number of clips done and in all.

    Returns:
        A report with the number of clips by status.

    Raises:
        StorageError: If the disk is full, or another process uses the folder. Finished clips are kept.
        DownloadError: If YouTube keeps refusing requests. Finished clips are kept.

    Example:
        >>> from quovadis.datasets.kinetics.annotations import KineticsClip
        >>> class CopyFetcher:  # use YtDlpFetcher() to download from YouTube
        ...     def fetch(self, youtube_id, folder):
        ...         return Path(shutil.copy(getfixture("clip_path"), folder))
        >>> clip = KineticsClip("-3B32lodo2M", 0, 1, "val", "abseiling")
        >>> report = download_from_youtube([clip], getfixture("tmp_path"), CopyFetcher())
        >>> report.counts
        {'ok': 1}
    """
    backoff = backoff or Backoff()
    with open_clip_folder(folder, "download from YouTube") as output:
        todo = [clip for clip in clips if _is_pending(clip, output, retry)]
        job = _Job(output, fetcher, backoff, ProgressCounter(len(todo), progress))
        in_parallel(job.download, todo, num_workers, backoff.stopped)
    return DownloadReport.of(clips, folder)


def _is_pending(clip: KineticsClip, output: ClipFolder, retry: bool) -> bool:
    if output.contains(clip):
        return False
    status = output.status(clip)
    return retry or status is None or status.source != SOURCE or status.status not in PERMANENT


@dataclass(frozen=True)
class _Job:
    """What the workers of one download share."""

    output: ClipFolder
    fetcher: VideoFetcher
    backoff: Backoff
    counter: ProgressCounter

    def download(self, clip: KineticsClip) -> None:
        """Download a clip and record its status; repeat while the service refuses and the backoff allows it."""
        while True:
            turn = self.backoff.wait()
            if self.backoff.stopped.is_set():
                return
            try:
                self._fetch_and_trim(clip)
            except FetchFailure as failure:
                self.output.record(clip, failure.status, SOURCE, failure.reason)
                if failure.status == "rate-limited":
                    self.backoff.refused(turn, failure.reason)
                    continue
                if failure.status == "network":
                    self.backoff.failed(turn, failure.reason)
                else:
                    self.backoff.answered(turn)
            else:
                self.backoff.answered(turn)
            self.counter.step()
            return

    def _fetch_and_trim(self, clip: KineticsClip) -> None:
        scratch = self.output.scratch_path()
        listed_seconds = clip.end_seconds - clip.start_seconds
        try:
            with storage_errors(self.output.root / clip.path):
                (scratch / "video").mkdir(parents=True)
                video = self.fetcher.fetch(clip.youtube_id, scratch / "video")
                seconds = trim_video(video, scratch / "clip.mp4", clip.start_seconds, clip.end_seconds)
                self.output.move_in(scratch / "clip.mp4", clip)
        except StorageError:
            raise
        except TooFewFramesError as error:
            raise FetchFailure("too-short", str(error).replace(str(video), "the video")) from error
        except QuovadisError as error:
            raise FetchFailure("damaged", str(error).replace(f"{scratch}{os.sep}", "")) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if seconds < listed_seconds - MAX_MISSING_SECONDS:
            self.output.record(clip, "short", SOURCE, f"{seconds:g} of {listed_seconds:g} s", seconds)
        else:
            self.output.record(clip, "ok", SOURCE, seconds=seconds)
