"""Extract features of many videos into files, on one or several devices."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from quovadis.datasets.video_inputs import unique_stems
from quovadis.errors import InvalidInputError, StorageError, TooFewFramesError
from quovadis.flow.flow_files import VideoFingerprint
from quovadis.flow.source import FlowSource
from quovadis.inference.feature_files import FeatureFile, FeatureWriter, files_for, output_state, settings_of
from quovadis.inference.feature_presets import FeaturePreset
from quovadis.inference.features import FeatureExtractor, FrameCountError
from quovadis.models.spec import Backend, StreamKind
from quovadis.video.reader import Damaged, VideoReader
from quovadis.weights.load import find_networks, load_model


@dataclass(frozen=True)
class ExtractJob:
    """A video and the feature files to write."""

    video: Path
    files: tuple[FeatureFile, ...]

    @property
    def streams(self) -> tuple[StreamKind, ...]:
        """The streams to compute."""
        return tuple(dict.fromkeys(s for file in self.files for s in file.streams))


@dataclass(frozen=True)
class ExtractResult:
    """Result of extracting the features of one video."""

    video: Path
    shapes: dict[str, tuple[int, ...]]
    """Shape of each file by its path, existing files included."""
    error: str = ""
    notes: tuple[str, ...] = ()
    """Caveats about the file, such as damage."""
    done_before: bool = False
    """Whether all files already existed."""


def plan_jobs(
    videos: dict[str, Path],
    out: Path,
    extractor: FeatureExtractor,
    streams: tuple[StreamKind, ...],
    *,
    overwrite: bool = False,
) -> tuple[list[ExtractJob], list[ExtractResult]]:
    """List the files to write, without those that exist.

    Args:
        videos: Videos by relative name; see :func:`quovadis.datasets.video_inputs.list_videos`.
        out: Output folder.
        extractor: Networks and preset.
        streams: Streams to extract, RGB first.
        overwrite: Replace existing files, even those of other settings.

    Returns:
        The jobs, and the results of videos that need no work: those done before, those whose existing files must not
        be overwritten, and those that cannot be read.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> extractor = FeatureExtractor([build_model("i3d_tiny", num_classes=2)])
        >>> jobs, results = plan_jobs({"v.mp4": getfixture("clip_path")}, getfixture("tmp_path"), extractor, ("rgb",))
        >>> [extract_video(job, extractor).error for job in jobs], results
        ([''], [])
    """
    jobs, results = [], []
    settings: dict[tuple[StreamKind, ...], dict[str, object]] = {}
    stems = unique_stems(videos)
    for name, path in videos.items():
        files = files_for(out, stems[name], extractor.preset, streams)
        shapes: dict[str, tuple[int, ...]] = {}
        missing = []
        try:
            for file in files:
                if not overwrite and file.path.exists():
                    if file.streams not in settings:
                        settings[file.streams] = settings_of(extractor, file.streams)
                    state = output_state(file, settings[file.streams], VideoFingerprint.of(path))
                    if state.refusal:
                        raise InvalidInputError(state.refusal)
                    if state.done:
                        shapes[str(file.path)] = tuple(state.sidecar["shape"])
                        continue
                missing.append(file)
        except (OSError, InvalidInputError) as error:
            results.append(ExtractResult(path, {}, str(error)))
            continue
        if missing:
            jobs.append(ExtractJob(path, tuple(missing)))
        else:
            results.append(ExtractResult(path, shapes, done_before=True))
    return jobs, results


def count_rows(job: ExtractJob, extractor: FeatureExtractor) -> tuple[int, tuple[str, ...]]:
    """Decode a video and count the rows that it will have.

    Returns:
        The number of rows, and notes on the file, such as damage.

    Raises:
        VideoError: If the video cannot be read, or is damaged and the extractor refuses damaged files.
    """
    rate = extractor.preset.rate(extractor.spec)
    with VideoReader(job.video) as reader:
        frames = reader.frames() if rate is None else reader.resampled_frames(rate)
        num_rows = extractor.num_rows(sum(1 for _ in frames))
        return num_rows, (*reader.notes, *reader.damage_notes(extractor.damaged))


def extract_video(job: ExtractJob, extractor: FeatureExtractor) -> ExtractResult:
    """Write the feature files of one video.

    Returns:
        The shapes of the files, or the error if the video cannot be used.

    Raises:
        StorageError: If a file cannot be written.

    Example:
        See :func:`plan_jobs`.

        >>> result = extract_video(job, extractor)  # doctest: +SKIP
    """
    try:
        try:
            return _extract(job, extractor, None)
        except FrameCountError as error:
            return _extract(job, extractor, error.num_frames)
    except StorageError:
        raise
    except (OSError, TooFewFramesError, InvalidInputError) as error:  # a VideoError is an OSError
        return ExtractResult(job.video, {}, str(error))


def extract_all(
    jobs: Sequence[ExtractJob],
    extractors: Sequence[FeatureExtractor],
    *,
    on_start: Callable[[ExtractJob], None] | None = None,
) -> Iterator[ExtractResult]:
    """Write the feature files of many videos, with one thread per extractor.

    Args:
        jobs: Result of :func:`plan_jobs`.
        extractors: Equal extractors, one per device.
        on_start: Called with each job when it starts.

    Yields:
        Results in the order in which videos finish.

    Raises:
        StorageError: If a file cannot be written. No further job is started.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> extractor = FeatureExtractor([build_model("i3d_tiny", num_classes=2)])
        >>> jobs, _ = plan_jobs({"v.mp4": getfixture("clip_path")}, getfixture("tmp_path"), extractor, ("rgb",))
        >>> [list(result.shapes.values()) for result in extract_all(jobs, [extractor])]
        [[(1, 256)]]
    """
    idle: queue.SimpleQueue[FeatureExtractor] = queue.SimpleQueue()
    for extractor in extractors:
        idle.put(extractor)

    def work(job: ExtractJob) -> ExtractResult:
        extractor = idle.get()
        try:
            if on_start is not None:
                on_start(job)
            return extract_video(job, extractor)
        finally:
            idle.put(extractor)

    with ThreadPoolExecutor(len(extractors)) as pool:
        try:
            for future in as_completed([pool.submit(work, job) for job in jobs]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class ExtractorSettings:
    """Picklable description of a :class:`FeatureExtractor`, for other processes and machines."""

    weights: tuple[str, ...]
    preset: FeaturePreset
    batch_frames: int = 512
    flow: FlowSource | None = None
    device: str | None = None
    backend: Backend = "torch"
    damaged: Damaged = "use"

    def build(self) -> FeatureExtractor:
        """Load the weights and create the extractor."""
        models = [load_model(network) for w in self.weights for network in find_networks(w)]
        return FeatureExtractor(
            models,
            self.preset,
            device=self.device,
            batch_frames=self.batch_frames,
            flow=self.flow,
            backend=self.backend,
            damaged=self.damaged,
        )


def extract_on_worker(task: tuple[ExtractJob, ExtractorSettings]) -> ExtractResult:
    """Run one job with :func:`~quovadis.runtime.jobs.run_jobs`; the extractor is reused within a process."""
    job, settings = task
    return extract_video(job, _cached_extractor(settings))


@lru_cache(maxsize=1)
def _cached_extractor(settings: ExtractorSettings) -> FeatureExtractor:
    return settings.build()


def _extract(job: ExtractJob, extractor: FeatureExtractor, num_frames: int | None) -> ExtractResult:
    fingerprint = VideoFingerprint.of(job.video)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(FeatureWriter(file, extractor.preset, settings_of(extractor, file.streams), job.video))
            for file in job.files
        ]
        notes: tuple[str, ...] = ()
        for rows in extractor.rows(job.video, job.streams, num_frames=num_frames):
            notes = rows.notes
            for writer in writers:
                writer.write(rows)
        for writer in writers:
            weights = {kind: dict(extractor.models[kind].source) for kind in writer.file.streams}
            writer.finish(fingerprint=vars(fingerprint), weights=weights, notes=list(notes))
        if extractor.preset.times:
            with VideoReader(job.video) as reader:
                writers[0].write_times(extractor.preset.rate(extractor.spec) or reader.info.fps)
        return ExtractResult(job.video, {str(w.file.path): w.shape for w in writers}, notes=notes)
