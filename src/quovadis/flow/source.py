"""Find or estimate the flow of videos, and store it in files."""

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
from quovadis.flow.flow_files import FLOW_SUFFIX, FlowFileWriter, FlowWriter, VideoFingerprint, read_flow
from quovadis.flow.folder import HEADER_NAME, FlowFolderWriter
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames


@dataclass(frozen=True)
class FlowSource:
    """Add flow to clips of videos: read it from a file, or estimate it if there is none.

    With a ``folder``, every video must have its flow there. Without one, flow stored next to a video is read, and flow
    of other videos is estimated. Stored flow must have the preset of this source and belong to the video.

    Example:
        >>> FlowSource(folder=Path("flow"), videos=Path("clips")).file_of("clips/run/v.mp4").as_posix()
        'flow/run/v.flow.mp4'
        >>> FlowSource().file_of("clips/run/v.mp4").as_posix()
        'clips/run/v.flow.mp4'
    """

    method: str = "tvl1"
    """Method of :func:`quovadis.estimate_flow`."""
    folder: Path | None = None
    """Output folder of ``quovadis flow``; None looks for flow next to each video."""
    videos: Path | None = None
    """Root folder of the videos. Flow files have the same relative paths below ``folder``."""

    def file_of(self, video: str | Path) -> Path:
        """Return the path of the flow file of a video."""
        video = Path(video)
        if self.folder is None:
            return video.with_name(video.stem + FLOW_SUFFIX)
        below = self.videos is not None and video.is_relative_to(self.videos)
        inner = video.relative_to(self.videos) if below and self.videos is not None else Path(video.name)
        return self.folder / inner.with_name(video.stem + FLOW_SUFFIX)

    def find(self, video: str | Path) -> Path | None:
        """Find the stored flow of a video.

        In a flow folder, the file may have the path of the video relative to ``videos``, or any trailing part of its
        path, tried from the longest: ``quovadis flow clips/train --out flow`` writes ``flow/run/v.flow.mp4``, which is
        found for ``clips/train/run/v.mp4``.

        Returns:
            The flow file; None if there is none and ``folder`` is None.

        Raises:
            InvalidInputError: If the flow folder does not exist or has no flow of the video.
        """
        video = Path(video)
        names = (video.name + FLOW_SUFFIX, video.stem + FLOW_SUFFIX)
        folders = [video.parent] if self.folder is None else self._candidate_folders(video.parent)
        for folder in folders:
            for name in names:
                if (folder / name).is_file():
                    return folder / name
        if self.folder is None:
            return None
        if not self.folder.is_dir():
            raise InvalidInputError(f"the flow folder {self.folder} does not exist; create it with quovadis flow")
        jpeg = next((f / video.stem for f in folders if (f / video.stem / HEADER_NAME).is_file()), None)
        if jpeg is not None:
            raise InvalidInputError(
                f"{jpeg} has the flow of {video} as JPEG files, which quovadis cannot read; run quovadis flow without "
                "--jpeg"
            )
        tried = ", ".join(str(folder / names[1]) for folder in folders)
        raise InvalidInputError(
            f"the flow folder {self.folder} has no flow of {video}; tried {tried}, and the same with "
            f"{names[0]}. Write it with: quovadis flow {video} --out {self.folder}; or omit the flow folder to "
            "estimate flow"
        )

    def _candidate_folders(self, parent: Path) -> list[Path]:
        """Return the folders that may contain the flow of videos in ``parent``."""
        assert self.folder is not None
        parts = Path(os.path.abspath(parent)).parts[1:]
        folders = [self.folder.joinpath(*parts[start:]) for start in range(len(parts) + 1)]
        if self.videos is not None and parent.is_relative_to(self.videos):
            folders.insert(0, self.folder / parent.relative_to(self.videos))
        return list(dict.fromkeys(folders))

    def add_to(
        self, clip: Clip, *, fps: float, short_side_px: int, first_frame_index: int, known: Tensor | None = None
    ) -> Clip:
        """Return a copy of a clip with its flow.

        Args:
            clip: Consecutive frames of the video ``clip.source``, already resized and not yet cropped or flipped.
            fps: Frame rate of the clip.
            short_side_px: Short side of its frames.
            first_frame_index: Index of its first frame in the video resampled to ``fps``.
            known: Flow of the first pairs of frames, which is not estimated again; see :func:`flow_for_clip`.

        Returns:
            Clip whose ``flow`` is float32 (T, 2, H, W) in pixels.

        Raises:
            InvalidInputError: If stored flow has another preset or belongs to another video, or the flow folder has
                none.
            TooFewFramesError: If flow must be estimated and the clip has a single frame.
        """
        path = self.find(clip.source)
        if path is None:
            return flow_for_clip(clip, method=self.method, known=known)
        preset = preset_for(self.method, fps=fps, short_side_px=short_side_px)
        stat = Path(clip.source).stat()
        fingerprint = _fingerprint(clip.source, stat.st_mtime_ns, stat.st_size)
        flow = read_flow(path, first_frame_index, first_frame_index + len(clip), preset=preset, video=fingerprint)
        return replace(clip, flow=flow)


@lru_cache(maxsize=4096)
def _fingerprint(path: str, mtime_ns: int, size_bytes: int) -> VideoFingerprint:
    """Return the fingerprint of a file, which is hashed again only if it changes."""
    return VideoFingerprint.of(path)


@dataclass(frozen=True)
class FlowJob:
    """A video whose flow :func:`store_flow` computes and writes."""

    video: Path
    target: Path
    """Flow file to write; with ``jpeg``, the folder."""
    preset: FlowPreset
    """Settings of the flow."""
    jpeg: bool = False
    """Write JPEG pairs instead of a flow file."""
    image_folder: Path | None = None
    """Folder for additional color images."""
    full_color_px: float = 10.0
    """Length of vectors that are fully saturated in the color images."""
    pairs_per_batch: int = 64
    """Maximum number of frame pairs processed at once."""
    device: str | None = None
    """Device to compute on; None uses a GPU if there is one."""

    def writers(self) -> list[FlowWriter]:
        """Open all outputs of the job."""
        fingerprint = VideoFingerprint.of(self.video)
        writer = FlowFolderWriter if self.jpeg else FlowFileWriter
        writers: list[FlowWriter] = [writer(self.target, fingerprint, self.preset)]
        if self.image_folder is not None:
            images = FlowFolderWriter(self.image_folder, fingerprint, self.preset, longest_px=self.full_color_px)
            writers.append(images)
        return writers


def store_flow(job: FlowJob) -> Iterator[int]:
    """Estimate the flow of a whole video and write it, with constant memory. Outputs are written atomically.

    Yields:
        The number of flows computed so far.

    Raises:
        VideoError: If the video cannot be read to its end.
        TooFewFramesError: If the video has a single frame.
        StorageError: If the flow cannot be written.

    Example:
        >>> preset, path = preset_for("tvl1-fast", short_side_px=32), getfixture("tmp_path") / "v.flow.mp4"
        >>> list(store_flow(FlowJob(getfixture("clip_path"), path, preset)))
        [29]
    """
    preset = job.preset
    device = job.device or ("cuda" if torch.cuda.is_available() else "cpu")
    parameters = preset.parameters if "tvl1" in preset.method else None
    num_flows = 0
    with ExitStack() as stack:
        writers = [stack.enter_context(writer) for writer in job.writers()]
        for frames in _chunks(job.video, preset, job.pairs_per_batch):
            flow = estimate_flow(
                frames, preset.method, parameters=parameters, pairs_per_batch=job.pairs_per_batch, device=device
            )
            for writer in writers:
                writer.write(flow)
            num_flows += len(flow)
            yield num_flows


def run_flow_job(job: FlowJob) -> tuple[int, str]:
    """Run a job to its end, in the form that :func:`~quovadis.runtime.jobs.run_jobs` expects.

    Returns:
        The number of flows, and an error message if the video cannot be used.

    Raises:
        StorageError: If the flow cannot be written, which would affect the next job as well.
    """
    try:
        return max(store_flow(job)), ""
    except (VideoError, TooFewFramesError, InvalidInputError) as error:
        return 0, str(error)


def _chunks(video: str | Path, preset: FlowPreset, num_pairs: int) -> Iterator[Tensor]:
    """Yield resized frames, uint8 (T, 3, H, W). Each chunk starts with the last frame of the previous one."""
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
