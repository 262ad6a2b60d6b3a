"""The store: every video of a dataset once decoded and written anew as the networks read it, beside its flow.

A video becomes H.264 at 25 frames a second, short side 256, with a key frame every 12 frames, so that 64 frames from
any place are read after decoding at most 11 others. ``benchmarks/prepare.py`` has the figures. A store is a folder::

    store.json          the settings
    manifest.parquet    the videos: path, hash, frames, label, split, group, status
    quarantine.jsonl    the videos that cannot be decoded to their end, and why
    CLASS/NAME.mp4      the tree of the source
    CLASS/NAME.flow.mp4 optical flow, where it was asked for
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.datasets.video_inputs import unique_stems
from quovadis.errors import DatasetError, StorageError, TooFewFramesError, VideoDamagedError, VideoError
from quovadis.flow.codec import preset_for
from quovadis.flow.flow_files import VideoFingerprint, estimate_bytes, read_header
from quovadis.flow.source import FlowJob, FlowSource, store_flow
from quovadis.runtime.atomic import sweep_partials, write_atomically
from quovadis.runtime.jobs import run_jobs
from quovadis.runtime.locks import FolderLock
from quovadis.video.opening import open_container
from quovadis.video.read import probe
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.writer import write_video

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.parquet"
_SETTINGS_NAME = "store.json"
_QUARANTINE_NAME = "quarantine.jsonl"
_PROBED_FOR_ESTIMATE = 100
_BYTES_PER_PIXEL = 0.035  # measured on real clips at the default settings; a third to three times of it


@dataclass(frozen=True)
class PrepareSettings:
    """How videos are written.

    >>> PrepareSettings().encoder_options()["g"]
    '12'
    """

    fps: float = 25.0
    """Frames a second; what the models see."""
    short_side_px: int = 256
    """The short side; what the models see. Smaller videos are enlarged, as they would be on reading."""
    quality: int = 18
    """Of H.264 (its crf): lower is better and larger; 18 cannot be told from the source by eye."""
    key_frame_every: int = 12
    """Frames from one key frame to the next."""
    flow_method: str | None = None
    """Store optical flow too, made by this method; see :func:`quovadis.estimate_flow`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", float(self.fps))  # 25 and 25.0 are one setting
        if not 0 < self.fps <= 1000 or self.short_side_px < 16 or self.key_frame_every < 1:
            raise DatasetError(
                f"a store needs fps above 0, a short side of at least 16 px and a key frame every 1 or more; got {self}"
            )
        if not 0 <= self.quality <= 51:
            raise DatasetError(f"the quality (crf) of H.264 goes from 0 to 51; got {self.quality}")

    def encoder_options(self) -> dict[str, str]:
        """Options of libx264."""
        return {
            "crf": str(self.quality),
            "g": str(self.key_frame_every),
            "preset": "veryfast",
            "tune": "fastdecode",
        }


@dataclass(frozen=True)
class ClipJob:
    """One video to be written into the store."""

    source: Path
    target: Path
    settings: PrepareSettings


@dataclass(frozen=True)
class PreparedClip:
    """What became of a video."""

    status: str
    """``ok``, ``missing`` or ``corrupt``, as in :data:`quovadis.datasets.manifest.STATUSES`."""
    reason: str = ""
    facts: dict[str, Any] | None = None
    """Of the stored file: the fields of :class:`~quovadis.datasets.manifest.VideoRecord` of these names."""


def prepare(
    data: Manifest,
    out: str | PathLike[str],
    settings: PrepareSettings | None = None,
    *,
    num_workers: int = 0,
    ray_address: str | None = None,
    on_video: Callable[[int], None] | None = None,
) -> Manifest:
    """Write a dataset into a store. Started again after a stop of any kind, it goes on where it was.

    Args:
        data: any dataset.
        out: the folder of the store.
        settings: how videos are written; None for those of the paper.
        num_workers: processes; 0 works here.
        ray_address: of a Ray cluster that does the work; see :func:`~quovadis.runtime.jobs.run_jobs`.
        on_video: called with the number of videos done.

    Returns:
        The manifest of the store, which is also written into it. Videos that are missing or corrupt stay in it, with
        the reason, so that they count as wrong when something is measured.

    Raises:
        DatasetError: a video lies outside of the dataset's folder.
        StorageError: the folder is in use, is full or cannot be written, or holds a store of other settings.
    """
    settings = settings or PrepareSettings()
    root = Path(out)
    jobs = clip_jobs(data, root, settings)
    with FolderLock(root, "preparing videos"):
        _claim(root, settings)
        quarantine = _Quarantine(root / _QUARANTINE_NAME)
        outcome = {job.target: clip for job in jobs if (clip := quarantine.known(job)) is not None}
        todo = [job for job in jobs if job.target not in outcome]
        work = run_jobs(prepare_clip, todo, num_workers=num_workers, ray_address=ray_address, on_crash=_crashed)
        with closing(work):
            for done, (index, clip) in enumerate(work, start=len(outcome) + 1):
                outcome[todo[index].target] = clip
                if clip.status == "corrupt":
                    quarantine.add(todo[index], clip)
                if on_video is not None:
                    on_video(done)
        stored = _stored_manifest(data, root, outcome, settings)
        stored.save(root / MANIFEST_NAME)
    return stored


def clip_jobs(data: Manifest, root: Path, settings: PrepareSettings) -> list[ClipJob]:
    """A job for each file of a dataset, in the tree of the source.

    Raises:
        DatasetError: a video lies outside of the dataset's folder.
    """
    return [ClipJob(source, target, settings) for source, target in _targets(data, root).items()]


def estimate_store_bytes(jobs: list[ClipJob]) -> int:
    """About how large a store becomes, from the headers of some of its videos."""
    step = max(len(jobs) // _PROBED_FOR_ESTIMATE, 1)
    sizes = []
    for job in jobs[::step]:
        with suppress(VideoError, OSError):
            info, settings = probe(job.source), job.settings
            seconds = info.duration_seconds or (info.num_frames or 0) / (info.fps or settings.fps)
            scale = settings.short_side_px / min(info.height, info.width)
            frames, height, width = seconds * settings.fps, info.height * scale, info.width * scale
            flow = estimate_bytes(round(frames), round(height), round(width)) if settings.flow_method else 0
            sizes.append(frames * height * width * _BYTES_PER_PIXEL + flow)
    return round(sum(sizes) / len(sizes) * len(jobs)) if sizes else 0


def require_space(root: Path, num_bytes: int) -> None:
    """Raise :class:`StorageError` where the disk has less room than that."""
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise StorageError(
            f"{root} has {free / 1e9:.1f} GB left, and the store needs about {num_bytes / 1e9:.1f} GB: choose another "
            "--out, or prepare fewer videos"
        )


def prepare_clip(job: ClipJob) -> PreparedClip:
    """Write one video, and its flow if asked for; what is there already from the same file is left as it is.

    Raises:
        StorageError: it cannot be written, nor can the next one.
    """
    try:
        about = _about(job)
        if _read_about(job.target) != about:
            _write(job, about)
        if job.settings.flow_method is not None:
            _write_flow(job, job.settings.flow_method)
        return PreparedClip("ok", facts=_facts(job))
    except FileNotFoundError:
        return PreparedClip("missing", "no such file")
    except (VideoError, TooFewFramesError) as error:
        for stale in (job.target, FlowSource().file_of(job.target)):  # of the file that stood there before
            stale.unlink(missing_ok=True)
        return PreparedClip("corrupt", str(error).replace(str(job.source), job.source.name))


def _write(job: ClipJob, about: str) -> None:
    settings = job.settings
    with VideoReader(job.source, num_threads=1) as reader:
        write_video(
            job.target,
            _pictures(reader, settings),
            fps=settings.fps,
            options=settings.encoder_options(),
            comment=about,
        )


def _pictures(reader: VideoReader, settings: PrepareSettings) -> Iterator[Tensor]:
    """The frames at the store's rate and size, each uint8 (3, H, W) with even sides."""
    last, picture = None, None
    for _, frame in reader.resampled_frames(settings.fps):
        if frame is not last:
            last, picture = frame, resize_frames(frame.pixels[None], settings.short_side_px)[0]
        assert picture is not None
        yield picture
    if reader.damage:  # nothing of it is kept: a clip that ends early would be another clip
        raise VideoDamagedError(f"{reader.path}: {reader.damage}")


def _write_flow(job: ClipJob, method: str) -> None:
    settings = job.settings
    target = FlowSource(method).file_of(job.target)
    preset = preset_for(method, fps=settings.fps, short_side_px=settings.short_side_px)
    with suppress(VideoError, ValueError):  # none, or of another method or video
        header = read_header(target)
        if not header.preset.difference(preset) and header.clip == VideoFingerprint.of(job.target):
            return
    for _ in store_flow(FlowJob(job.target, target, preset)):
        pass


def _about(job: ClipJob) -> str:
    """What is written into the file, to know it again: how it was made, and from which file."""
    status = job.source.stat()
    made = {**asdict(job.settings), "flow_method": None}  # flow has a file and a header of its own
    source = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return json.dumps({"quovadis store": FORMAT_VERSION, "settings": made, "source": source})


def _read_about(path: Path) -> str:
    try:
        with open_container(path) as container:
            return container.metadata.get("comment", "")
    except VideoError:
        return ""


def _facts(job: ClipJob) -> dict[str, Any]:
    with job.target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    info = probe(job.target)
    return {
        "num_frames": info.num_frames,
        "fps": info.fps,
        "duration_seconds": info.duration_seconds,
        "width_px": info.width,
        "height_px": info.height,
        "size_bytes": size,
        "sha256": digest,
    }


def _crashed(job: ClipJob) -> PreparedClip:
    return PreparedClip("corrupt", "the process that read it died: a broken file, or too little memory")


class _Quarantine:
    """The videos that could not be decoded, remembered until their file changes."""

    def __init__(self, path: Path):
        self._path = path
        self._reasons: dict[tuple[str, int, int], str] = {}
        with suppress(FileNotFoundError):
            for line in path.read_text().splitlines():
                with suppress(ValueError, KeyError):  # half a line, as a kill leaves it
                    row = json.loads(line)
                    self._reasons[row["source"], row["size_bytes"], row["mtime_ns"]] = row["reason"]

    def known(self, job: ClipJob) -> PreparedClip | None:
        key = self._key(job)
        return PreparedClip("corrupt", self._reasons[key]) if key in self._reasons else None

    def add(self, job: ClipJob, clip: PreparedClip) -> None:
        key = self._key(job)
        if key is None:
            return
        row = dict(zip(("source", "size_bytes", "mtime_ns"), key, strict=True)) | {"reason": clip.reason}
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}") from error

    @staticmethod
    def _key(job: ClipJob) -> tuple[str, int, int] | None:
        try:
            status = job.source.stat()
        except OSError:
            return None
        return str(job.source), status.st_size, status.st_mtime_ns


def _targets(data: Manifest, root: Path) -> dict[Path, Path]:
    """Where each video is written; ``a.avi`` next to ``a.mp4`` becomes ``a.avi.mp4``."""
    sources = {}
    for record in data.records:
        if not record.path.is_relative_to(data.root):
            raise DatasetError(
                f"{record.path} lies outside of {data.root}, so it has no place in the store: name the folder that "
                "holds all videos as the root of the dataset"
            )
        sources[record.path.relative_to(data.root).as_posix()] = record.path
    return {sources[name]: root / f"{stem}.mp4" for name, stem in unique_stems(sources).items()}


def _claim(root: Path, settings: PrepareSettings) -> None:
    """Note the settings in the folder, so that videos of two are never mixed."""
    sweep_partials(root)
    note = root / _SETTINGS_NAME
    made = {**asdict(settings), "flow_method": None}
    if note.is_file():
        there = _read_settings(note)
        if there != made:
            differing = ", ".join(f"{k} is {there.get(k)}, not {made[k]}" for k in made if there.get(k) != made[k])
            raise StorageError(f"{root} holds a store of other settings ({differing}): choose another --out")
        return
    foreign = [p.name for p in root.iterdir() if not p.name.startswith(".")]
    if foreign:
        raise StorageError(f"{root} holds something else ({foreign[0]} ...): choose an empty folder for the store")
    write_atomically(note, json.dumps(made, indent=2) + "\n")


def _read_settings(note: Path) -> dict[str, Any]:
    try:
        settings = json.loads(note.read_bytes())
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise StorageError(
            f"{note} is damaged: it must hold the settings of this folder as JSON. Delete it together with the videos "
            "in the folder, or choose another --out"
        )
    return settings


def _reason(record: VideoRecord, clip: PreparedClip) -> str:
    """Why a video is not in the store; a dataset may know why it was missing before."""
    return record.reason if clip.status == record.status == "missing" else clip.reason


def _stored_manifest(
    data: Manifest, root: Path, outcome: dict[Path, PreparedClip], settings: PrepareSettings
) -> Manifest:
    records = []
    targets = _targets(data, root)
    for record in data.records:
        target = targets[record.path]
        clip = outcome[target]
        blank = VideoRecord(target, record.label, record.split, record.group)
        records.append(replace(blank, status=clip.status, reason=_reason(record, clip), **(clip.facts or {})))
    note = (
        f"prepared from {data.name}, data {data.fingerprint}, at {settings.fps:g} fps and short side "
        f"{settings.short_side_px} px"
    )
    return Manifest(data.name, root, data.labels, tuple(records), (*data.notes, note))
