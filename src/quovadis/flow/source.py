"""Where the flow of a video comes from: a stored file, or an estimate on the spot; and how files are made of videos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, TooFewFramesError, VideoDamagedError, VideoError
from quovadis.flow.codec import FlowPreset, preset_for
from quovadis.flow.estimate import estimate_flow, flow_for_clip
from quovadis.flow.flow_files import FILE_ENDING, FlowSink, FlowWriter, VideoFingerprint, read_flow
from quovadis.flow.folder import HEADER_NAME, FlowFolderWriter
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames


@dataclass(frozen=True)
class FlowSource:
    """Flow for clips of videos, read from files or estimated.

    With a ``folder``, every video must have its flow there. Without one, flow next to a video is read, and estimated
    where there is none. Stored flow must have been made as this source would make it, of just this video; otherwise
    reading raises :class:`~quovadis.errors.InvalidInputError`, which says what differs.

    >>> FlowSource(folder=Path("flow"), videos=Path("clips")).file_of("clips/run/v.mp4").as_posix()
    'flow/run/v.flow.mp4'
    >>> FlowSource().file_of("clips/run/v.mp4").as_posix()
    'clips/run/v.flow.mp4'
    """

    method: str = "tvl1"
    """See :func:`quovadis.estimate_flow`."""
    folder: Path | None = None
    """Where ``quovadis flow`` wrote; None for the folder of each video."""
    videos: Path | None = None
    """The root of the videos: their paths below it are those of the flow files below ``folder``."""

    def file_of(self, video: str | Path) -> Path:
        """Where the flow of a video is written."""
        video = Path(video)
        if self.folder is None:
            return video.with_name(video.stem + FILE_ENDING)
        below = self.videos is not None and video.is_relative_to(self.videos)
        inner = video.relative_to(self.videos) if below and self.videos is not None else Path(video.name)
        return self.folder / inner.with_name(video.stem + FILE_ENDING)

    def find(self, video: str | Path) -> Path | None:
        """Find the stored flow of a video.

        In a flow folder, the file is looked for under the path of the video below ``videos``, and under every end of
        its path, the longest first: ``quovadis flow clips/train --out flow`` writes ``flow/run/v.flow.mp4``, which is
        found for ``clips/train/run/v.mp4``.

        Returns:
            The file; None where there is none and no flow folder is named.

        Raises:
            InvalidInputError: If the flow folder has no flow of the video; names the paths that were tried.
        """
        video = Path(video)
        names = (video.name + FILE_ENDING, video.stem + FILE_ENDING)
        folders = [video.parent] if self.folder is None else self._places(video.parent)
        for folder in folders:
            for name in names:
                if (folder / name).is_file():
                    return folder / name
        if self.folder is None:
            return None
        if not self.folder.is_dir():
            raise InvalidInputError(f"there is no flow folder {self.folder}: quovadis flow writes one")
        jpeg = next((place / video.stem for place in folders if (place / video.stem / HEADER_NAME).is_file()), None)
        if jpeg is not None:
            raise InvalidInputError(
                f"{jpeg} has the flow of {video} as JPEG files, which are for other programs: run quovadis flow "
                "without --jpeg"
            )
        tried = ", ".join(str(place / names[1]) for place in folders)
        raise InvalidInputError(
            f"the flow folder {self.folder} has no flow of {video}; tried {tried}, and the same with "
            f"{names[0]}. Write it with: quovadis flow {video} --out {self.folder}; or leave the flow folder out to "
            "have flow computed"
        )

    def _places(self, parent: Path) -> list[Path]:
        """Folders below the flow folder where the flow of videos of ``parent`` may be."""
        assert self.folder is not None
        parts = Path(os.path.abspath(parent)).parts[1:]
        places = [self.folder.joinpath(*parts[start:]) for start in range(len(parts) + 1)]
        if self.videos is not None and parent.is_relative_to(self.videos):
            places.insert(0, self.folder / parent.relative_to(self.videos))
        return list(dict.fromkeys(places))

    def add_to(self, clip: Clip, *, fps: float, short_side_px: int, first_tick: int) -> Clip:
        """The clip with its ``flow`` filled.

        Args:
            clip: consecutive frames of the video ``clip.source``, resized and not yet cropped or mirrored.
            fps: frames a second of the clip.
            short_side_px: the size it was resized to.
            first_tick: the number of its first frame, counted at ``fps`` from the start of the video.

        Raises:
            InvalidInputError: flow is stored that was made otherwise, or of another video; or the flow folder has none.
            TooFewFramesError: a single frame.
        """
        path = self.find(clip.source)
        if path is None:
            return flow_for_clip(clip, method=self.method)
        preset = preset_for(self.method, fps=fps, short_side_px=short_side_px)
        fingerprint = _fingerprint(clip.source)
        return replace(clip, flow=read_flow(path, first_tick, first_tick + len(clip), preset=preset, clip=fingerprint))


@lru_cache(maxsize=4096)
def _fingerprint_at(path: str, mtime_ns: int, size_bytes: int) -> VideoFingerprint:
    return VideoFingerprint.of(path)


def _fingerprint(path: str) -> VideoFingerprint:
    """The fingerprint of a file, hashed once as long as it does not change."""
    stat = Path(path).stat()
    return _fingerprint_at(path, stat.st_mtime_ns, stat.st_size)


@dataclass(frozen=True)
class FlowJob:
    """One video whose flow is to be stored."""

    video: Path
    target: Path
    """The file, or with ``jpeg`` the folder."""
    preset: FlowPreset
    jpeg: bool = False
    """JPEG pairs instead of one file."""
    pictures: Path | None = None
    """A folder for color pictures too."""
    picture_px: float = 10.0
    """Length of the vectors that get the full color there."""
    pairs_per_batch: int = 64
    """Pairs of frames at work at a time."""
    device: str | None = None
    """Where to compute; by default a GPU if there is one."""

    def sinks(self) -> list[FlowSink]:
        """What takes the flow."""
        clip = VideoFingerprint.of(self.video)
        sinks: list[FlowSink] = [(FlowFolderWriter if self.jpeg else FlowWriter)(self.target, clip, self.preset)]
        if self.pictures is not None:
            sinks.append(FlowFolderWriter(self.pictures, clip, self.preset, longest_px=self.picture_px))
        return sinks


def store_flow(job: FlowJob) -> Iterator[int]:
    """Estimate the flow of a whole video and write it, at constant memory; yields the number of flows done so far.

    Nothing appears at the target before the end.

    Raises:
        VideoError: the video cannot be read, or not to its end. TooFewFramesError: it has a single frame.
        StorageError: the flow cannot be written.

    >>> preset, path = preset_for("tvl1-fast", short_side_px=32), getfixture("tmp_path") / "v.flow.mp4"
    >>> list(store_flow(FlowJob(getfixture("clip_path"), path, preset)))
    [29]
    """
    preset = job.preset
    device = job.device or ("cuda" if torch.cuda.is_available() else "cpu")
    parameters = preset.parameters if "tvl1" in preset.method else None
    done = 0
    with ExitStack() as stack:
        sinks = [stack.enter_context(sink) for sink in job.sinks()]
        for frames in _stretches(job.video, preset, job.pairs_per_batch):
            flow = estimate_flow(
                frames, preset.method, parameters=parameters, pairs_per_batch=job.pairs_per_batch, device=device
            )
            for sink in sinks:
                sink.write(flow)
            done += len(flow)
            yield done


def finish_flow(job: FlowJob) -> tuple[int, str]:
    """Do a job to its end, for :func:`~quovadis.runtime.jobs.run_jobs`.

    Returns:
        The number of flows, and why there are none, if the video is at fault.

    Raises:
        StorageError: the flow cannot be written, nor can that of the next video.
    """
    try:
        return max(store_flow(job)), ""
    except (VideoError, TooFewFramesError, InvalidInputError) as error:
        return 0, str(error)


def _stretches(video: str | Path, preset: FlowPreset, num_pairs: int) -> Iterator[Tensor]:
    """Resized frames at the preset's rate, uint8 (T, 3, H, W); each stretch begins with the last one's last frame."""
    frames: list[Tensor] = []
    with VideoReader(video) as reader:
        num_frames = 0
        for _, frame in reader.resampled_frames(preset.fps):
            num_frames += 1
            frames.append(resize_frames(frame.pixels[None], preset.short_side_px))
            if len(frames) == num_pairs + 1:
                yield torch.cat(frames)
                frames = frames[-1:]
        if reader.damage:
            raise VideoDamagedError(f"{video} is damaged: {reader.damage}")
        if num_frames < 2:
            raise TooFewFramesError(f"{video} has {num_frames} frame at {preset.fps:g} fps; optical flow needs 2")
        if len(frames) > 1:
            yield torch.cat(frames)
