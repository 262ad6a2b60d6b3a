"""Prepared datasets: videos re-encoded for fast random access, with optional optical flow.

Videos become H.264 at 25 frames per second with short side 256 and a key frame every 12 frames, so that reading 64
frames from any position decodes at most 11 others. ``benchmarks/prepare.py`` measures the speed. The folder contains::

    prepared.json        settings
    manifest.parquet     path, hash, number of frames, label, split, group and status of every video
    quarantine.jsonl     videos that cannot be decoded to the end, and why
    CLASS/NAME.mp4       videos, in the folder structure of the source
    CLASS/NAME.flow.mp4  optical flow, if requested
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from quovadis.datasets.inspection import CRASH_REASON, inspect_video
from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord
from quovadis.datasets.prepared_folder import MANIFEST_NAME, QUARANTINE_NAME, Quarantine, claim_folder
from quovadis.datasets.video_inputs import unique_stems
from quovadis.errors import DatasetError, TooFewFramesError, VideoDamagedError, VideoError
from quovadis.flow.codec import preset_for
from quovadis.flow.flow_files import VideoFingerprint, estimate_bytes, read_header
from quovadis.flow.source import FlowJob, FlowSource, store_flow
from quovadis.runtime.jobs import run_jobs
from quovadis.runtime.locks import FolderLock
from quovadis.video.opening import open_container
from quovadis.video.read import probe
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.writer import write_video

_FORMAT_VERSION = 1
_MAX_PROBED = 100
_BYTES_PER_PIXEL = 0.035  # measured on real clips at the default settings; varies by a factor of three


@dataclass(frozen=True)
class PrepareSettings:
    """Format of prepared videos; the defaults are the input format of the paper's models.

    Raises:
        DatasetError: If a value is out of range.

    Example:
        >>> PrepareSettings(quality=20).encoder_options()["crf"]
        '20'
    """

    fps: float = 25.0
    """Frames per second."""
    short_side_px: int = 256
    """Length of the short side. Smaller videos are enlarged."""
    quality: int = 18
    """Constant rate factor (CRF) of H.264, 0 to 51; lower is better and larger. 18 is visually lossless."""
    key_frame_every: int = 12
    """Frames between key frames."""
    flow_method: str | None = None
    """Method of stored optical flow, see :func:`quovadis.estimate_flow`; None stores no flow."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", float(self.fps))  # 25 and 25.0 are the same setting
        if not 0 < self.fps <= 1000 or self.short_side_px < 16 or self.key_frame_every < 1:
            raise DatasetError(
                "expected fps above 0 and up to 1000, a short side of at least 16 px and a key frame every 1 or more "
                f"frames; got {self}"
            )
        if not 0 <= self.quality <= 51:
            raise DatasetError(f"expected an H.264 quality (CRF) from 0 to 51; got {self.quality}")

    def encoder_options(self) -> dict[str, str]:
        """Return the options of libx264."""
        return {
            "crf": str(self.quality),
            "g": str(self.key_frame_every),
            "preset": "veryfast",
            "tune": "fastdecode",
        }

    def video_settings(self) -> dict[str, Any]:
        """Return all settings except the flow method, which is stored in the flow files."""
        return {**asdict(self), "flow_method": None}


@dataclass(frozen=True)
class ClipJob:
    """One video to prepare."""

    source: Path
    target: Path
    settings: PrepareSettings


@dataclass(frozen=True)
class PreparedClip:
    """Result of preparing one video."""

    status: str
    """``ok``, ``missing`` or ``corrupt``, see :data:`quovadis.datasets.manifest.STATUSES`."""
    reason: str = ""
    record: VideoRecord | None = None
    """Properties of the prepared file; its label and split are not set."""


def prepare(
    data: Manifest,
    out: str | PathLike[str],
    settings: PrepareSettings | None = None,
    *,
    num_workers: int = 0,
    ray_address: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Re-encode a dataset for fast random access, optionally with optical flow.

    An interrupted call can be repeated; videos that are done are not encoded again. Videos whose source has changed
    are.

    Args:
        data: The dataset.
        out: Output folder, empty or with a dataset prepared with the same settings.
        settings: Format of the videos; by default that of the paper's models.
        num_workers: Number of worker processes; 0 works in the calling process.
        ray_address: Address of a Ray cluster that does the work; see :func:`~quovadis.runtime.jobs.run_jobs`.
        progress: Progress callback, called with the number of videos done.

    Returns:
        The manifest of the prepared dataset, also written to ``out/manifest.parquet``. Missing and corrupt videos stay
        in it with the reason, so that they count as wrong in evaluation.

    Raises:
        DatasetError: If a video is outside of the dataset's root.
        StorageError: If the folder is in use, full, not writable, or has a dataset with other settings.

    Example:
        >>> from quovadis.datasets.motions import MotionsConfig, load_motions
        >>> folder = getfixture("tmp_path")
        >>> config = MotionsConfig(1, 1, 1, shapes=("disc",), motions=("spins", "slides"))
        >>> data = load_motions(config, root=folder / "raw")
        >>> prepared = prepare(data, folder / "prepared", PrepareSettings(short_side_px=72))
        >>> [(min(r.width_px, r.height_px), r.fps, r.status) for r in prepared.split("train")]
        [(72, 25.0, 'ok'), (72, 25.0, 'ok')]
    """
    settings = settings or PrepareSettings()
    root = Path(out)
    jobs = clip_jobs(data, root, settings)
    with FolderLock(root, "preparing videos"):
        claim_folder(root, settings.video_settings())
        quarantine = Quarantine(root / QUARANTINE_NAME)
        results: dict[Path, PreparedClip] = {}
        for job in jobs:
            if (reason := quarantine.reason(job.source)) is not None:
                results[job.target] = PreparedClip("corrupt", reason)
        todo = [job for job in jobs if job.target not in results]
        work = run_jobs(prepare_clip, todo, num_workers=num_workers, ray_address=ray_address, on_crash=_crashed)
        with closing(work):
            for num_done, (index, clip) in enumerate(work, start=len(results) + 1):
                results[todo[index].target] = clip
                if clip.status == "corrupt":
                    quarantine.add(todo[index].source, clip.reason)
                if progress is not None:
                    progress(num_done)
        prepared = _prepared_manifest(data, root, results, settings)
        prepared.save(root / MANIFEST_NAME)
    return prepared


def clip_jobs(data: Manifest, root: Path, settings: PrepareSettings) -> list[ClipJob]:
    """Return a job for each file of a dataset, with targets in the folder structure of the source.

    Raises:
        DatasetError: If a video is outside of the dataset's root.
    """
    return [ClipJob(source, target, settings) for source, target in _targets(data, root).items()]


def estimate_prepared_bytes(jobs: list[ClipJob]) -> int:
    """Estimate the size of a prepared dataset from the headers of some of its videos."""
    step = max(len(jobs) // _MAX_PROBED, 1)
    sizes = []
    for job in jobs[::step]:
        with suppress(VideoError, OSError):
            info, settings = probe(job.source), job.settings
            seconds = info.duration_seconds or (info.num_frames or 0) / (info.fps or settings.fps)
            scale = settings.short_side_px / min(info.height, info.width)
            num_frames, height, width = seconds * settings.fps, info.height * scale, info.width * scale
            flow = estimate_bytes(round(num_frames), round(height), round(width)) if settings.flow_method else 0
            sizes.append(num_frames * height * width * _BYTES_PER_PIXEL + flow)
    return round(sum(sizes) / len(sizes) * len(jobs)) if sizes else 0


def prepare_clip(job: ClipJob) -> PreparedClip:
    """Write one video, and its flow if requested, unless both exist and were made from the same file.

    Raises:
        StorageError: If the file cannot be written.
    """
    try:
        origin = _origin(job)
        if _read_origin(job.target) != origin:
            _write_clip(job, origin)
        if job.settings.flow_method is not None:
            _write_flow(job, job.settings.flow_method)
        return PreparedClip("ok", record=inspect_video(VideoRecord(job.target, UNLABELED, ""), decode=False))
    except FileNotFoundError:
        return PreparedClip("missing", "no such file")
    except (VideoError, TooFewFramesError) as error:
        for stale in (job.target, FlowSource().file_of(job.target)):  # made from an earlier version of the source
            stale.unlink(missing_ok=True)
        return PreparedClip("corrupt", str(error).replace(str(job.source), job.source.name))


def _write_clip(job: ClipJob, origin: str) -> None:
    settings = job.settings
    with VideoReader(job.source, num_threads=1) as reader:
        write_video(
            job.target,
            _resized_frames(reader, settings),
            fps=settings.fps,
            options=settings.encoder_options(),
            comment=origin,
        )


def _resized_frames(reader: VideoReader, settings: PrepareSettings) -> Iterator[Tensor]:
    """Yield uint8 frames (3, H, W) at the rate and size of the settings."""
    last, resized = None, None
    for _, frame in reader.resampled_frames(settings.fps):
        if frame is not last:
            last, resized = frame, resize_frames(frame.pixels[None], settings.short_side_px)[0]
        assert resized is not None
        yield resized
    if reader.damage:  # write nothing rather than a clip that ends early
        raise VideoDamagedError(f"{reader.path}: {reader.damage}")


def _write_flow(job: ClipJob, method: str) -> None:
    settings = job.settings
    target = FlowSource(method).file_of(job.target)
    preset = preset_for(method, fps=settings.fps, short_side_px=settings.short_side_px)
    with suppress(VideoError, ValueError):  # no flow yet, or of another method or video
        header = read_header(target)
        if not header.preset.difference(preset) and header.video == VideoFingerprint.of(job.target):
            return
    for _ in store_flow(FlowJob(job.target, target, preset)):
        pass


def _origin(job: ClipJob) -> str:
    """Return the comment that identifies how, and from which file, a video was made."""
    status = job.source.stat()
    source = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return json.dumps(
        {"quovadis prepared": _FORMAT_VERSION, "settings": job.settings.video_settings(), "source": source}
    )


def _read_origin(path: Path) -> str:
    try:
        with open_container(path) as container:
            return container.metadata.get("comment", "")
    except VideoError:
        return ""


def _crashed(job: ClipJob) -> PreparedClip:
    return PreparedClip("corrupt", CRASH_REASON)


def _targets(data: Manifest, root: Path) -> dict[Path, Path]:
    """Map each video to its output file; ``a.avi`` next to ``a.mp4`` becomes ``a.avi.mp4``."""
    sources = {}
    for record in data.records:
        if not record.path.is_relative_to(data.root):
            raise DatasetError(
                f"{record.path} is outside of {data.root}, so its place in the prepared dataset is undefined: pass the "
                "folder that contains all videos as the root of the dataset"
            )
        sources[record.path.relative_to(data.root).as_posix()] = record.path
    return {sources[name]: root / f"{stem}.mp4" for name, stem in unique_stems(sources).items()}


def _prepared_manifest(
    data: Manifest, root: Path, results: dict[Path, PreparedClip], settings: PrepareSettings
) -> Manifest:
    records = []
    targets = _targets(data, root)
    for record in data.records:
        target = targets[record.path]
        clip = results[target]
        # A download may have recorded why a video is missing.
        reason = record.reason if clip.status == record.status == "missing" else clip.reason
        prepared = clip.record or VideoRecord(target, UNLABELED, "")
        prepared = replace(prepared, label=record.label, split=record.split, group=record.group)
        records.append(replace(prepared, status=clip.status, reason=reason))
    note = (
        f"prepared from {data.name}, data {data.fingerprint}, at {settings.fps:g} fps and short side "
        f"{settings.short_side_px} px"
    )
    return Manifest(data.name, root, data.labels, tuple(records), (*data.reading_notes, note))
