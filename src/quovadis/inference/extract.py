"""Features of many videos into files: planned before it begins, over several devices, each video by itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from quovadis.datasets.video_inputs import unique_stems
from quovadis.errors import InvalidInputError, StorageError, TooFewFramesError
from quovadis.flow.flow_files import VideoFingerprint
from quovadis.flow.source import FlowSource
from quovadis.inference.feature_files import FeatureFile, FeatureWriter, files_for, settings_of, standing
from quovadis.inference.feature_presets import FeaturePreset
from quovadis.inference.features import FeatureExtractor, LengthDiffersError
from quovadis.models.optimize import Backend
from quovadis.models.spec import StreamKind
from quovadis.video.reader import VideoReader
from quovadis.weights.load import load_model


@dataclass(frozen=True)
class ExtractJob:
    """A video and the files of it that are to be made."""

    video: Path
    files: tuple[FeatureFile, ...]

    @property
    def streams(self) -> tuple[StreamKind, ...]:
        """What must be computed."""
        return tuple(dict.fromkeys(s for file in self.files for s in file.streams))


@dataclass(frozen=True)
class Extracted:
    """How one video came out."""

    video: Path
    shapes: dict[str, tuple[int, ...]]
    """Of each file by its path; those that were there already too."""
    error: str = ""
    done_before: bool = False


def plan_jobs(
    videos: dict[str, Path],
    out: Path,
    extractor: FeatureExtractor,
    streams: tuple[StreamKind, ...],
    *,
    overwrite: bool = False,
) -> tuple[list[ExtractJob], list[Extracted]]:
    """What is to be done, and what is settled: done before, refused, or not to be read at all.

    Args:
        videos: see :func:`quovadis.datasets.video_inputs.list_videos`.
        out: the folder to write to.
        extractor: networks and preset.
        streams: RGB first.
        overwrite: make anew what is there, whatever it is.
    """
    jobs, settled = [], []
    settings: dict[tuple[StreamKind, ...], dict[str, object]] = {}
    stems = unique_stems(videos)
    for name, path in videos.items():
        files = files_for(out, stems[name], extractor.preset, streams)
        shapes: dict[str, tuple[int, ...]] = {}
        todo = []
        try:
            for file in files:
                if not overwrite and file.path.exists():
                    if file.streams not in settings:
                        settings[file.streams] = settings_of(extractor, file.streams)
                    found = standing(file, settings[file.streams], VideoFingerprint.of(path))
                    if found.refusal:
                        raise InvalidInputError(found.refusal)
                    if found.done:
                        shapes[str(file.path)] = tuple(found.facts["shape"])
                        continue
                todo.append(file)
        except (OSError, InvalidInputError) as error:
            settled.append(Extracted(path, {}, str(error)))
            continue
        if todo:
            jobs.append(ExtractJob(path, tuple(todo)))
        else:
            settled.append(Extracted(path, shapes, done_before=True))
    return jobs, settled


def count_rows(job: ExtractJob, extractor: FeatureExtractor) -> int:
    """Rows that a video will give, as its header says.

    Raises:
        VideoError: it cannot be read.
    """
    with VideoReader(job.video) as reader:
        return extractor.num_rows(extractor.count_frames(reader))


def extract_video(job: ExtractJob, extractor: FeatureExtractor) -> Extracted:
    """Make the files of one video.

    Returns:
        What was made, or what was wrong with the video.

    Raises:
        StorageError: it cannot be written, nor can the next.
    """
    try:
        try:
            return _extract(job, extractor, None)
        except LengthDiffersError as error:
            return _extract(job, extractor, error.num_frames)
    except StorageError:
        raise
    except (OSError, TooFewFramesError, InvalidInputError) as error:  # a VideoError is an OSError
        return Extracted(job.video, {}, str(error))


def extract_all(
    jobs: Sequence[ExtractJob],
    extractors: Sequence[FeatureExtractor],
    *,
    on_start: Callable[[ExtractJob], None] | None = None,
) -> Iterator[Extracted]:
    """Make the files of all videos; each extractor, in a thread of its own, takes the next video when it is free.

    Args:
        jobs: see :func:`plan_jobs`.
        extractors: alike, one a device.
        on_start: called when a video begins.

    Yields:
        What came of each video, in the order in which they end.

    Raises:
        StorageError: nothing can be written any more.
    """
    waiting: queue.SimpleQueue[ExtractJob] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    results: queue.SimpleQueue[Extracted | BaseException] = queue.SimpleQueue()
    stopped = threading.Event()

    def work(extractor: FeatureExtractor) -> None:
        try:
            while not stopped.is_set():
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                if on_start is not None:
                    on_start(job)
                results.put(extract_video(job, extractor))
        except BaseException as error:
            results.put(error)

    threads = [threading.Thread(target=work, args=(e,), daemon=True) for e in extractors]
    for thread in threads:
        thread.start()
    try:
        for _ in jobs:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class ExtractorSettings:
    """What an extractor is made of, small enough to travel to another process or machine."""

    weights: tuple[str, ...]
    preset: FeaturePreset
    batch_frames: int = 512
    flow: FlowSource | None = None
    device: str | None = None
    backend: Backend = "torch"

    def build(self) -> FeatureExtractor:
        """The extractor; reads the weights."""
        models = [load_model(w) for w in self.weights]
        return FeatureExtractor(
            models,
            self.preset,
            device=self.device,
            batch_frames=self.batch_frames,
            flow=self.flow,
            backend=self.backend,
        )


def extract_on_worker(task: tuple[ExtractJob, ExtractorSettings]) -> Extracted:
    """One video, for :func:`~quovadis.runtime.jobs.run_jobs`; a process keeps its extractor for the next one."""
    job, settings = task
    return extract_video(job, _extractor_here(settings))


@lru_cache(maxsize=1)
def _extractor_here(settings: ExtractorSettings) -> FeatureExtractor:
    return settings.build()


def _extract(job: ExtractJob, extractor: FeatureExtractor, num_frames: int | None) -> Extracted:
    fingerprint = VideoFingerprint.of(job.video)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(FeatureWriter(file, extractor.preset, settings_of(extractor, file.streams), job.video))
            for file in job.files
        ]
        for rows in extractor.rows(job.video, job.streams, num_frames=num_frames):
            for writer in writers:
                writer.write(rows)
        for writer in writers:
            weights = {kind: dict(extractor.models[kind].source) for kind in writer.file.streams}
            writer.finish(fingerprint=vars(fingerprint), weights=weights)
        if extractor.preset.times:
            with VideoReader(job.video) as reader:
                writers[0].write_times(extractor.preset.rate(extractor.spec) or reader.info.fps)
        return Extracted(job.video, {str(w.file.path): w.shape for w in writers})
