"""Read a video as a stream of network inputs at constant memory: decode, resize, add flow, crop.

Each step maps an iterator of clips to another, so that it can run in its own thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.errors import InvalidInputError
from quovadis.flow.codec import encode_flow
from quovadis.flow.estimate import estimate_flow
from quovadis.flow.source import FlowSource
from quovadis.inference.feature_presets import FeaturePreset
from quovadis.models.spec import ModelSpec, StreamKind
from quovadis.video.clip import Clip
from quovadis.video.frame import VideoFrame
from quovadis.video.reader import Damaged, VideoReader
from quovadis.video.resize import resize_frames, resize_frames_to

BLOCK_FRAMES = 32
"""Number of frames that are passed from step to step together."""


@dataclass(frozen=True)
class CroppedFrames:
    """Consecutive network inputs of every stream."""

    streams: dict[StreamKind, Tensor]
    """uint8 (T, crops, C, size, size)."""
    seconds: list[float]
    """Start time of each frame, on the clock of the file."""


def decode(reader: VideoReader, preset: FeaturePreset, spec: ModelSpec, damaged: Damaged = "use") -> Iterator[Clip]:
    """Decode a video at the rate of the preset into resized clips of up to :data:`BLOCK_FRAMES` frames.

    Raises:
        VideoDamagedError: At the end, if the file is damaged, and ``damaged`` is ``"refuse"``.
    """
    rate, size = preset.rate(spec), preset.size(spec)
    frames: list[Tensor] = []
    seconds: list[float] = []
    last: VideoFrame | None = None
    resized = torch.empty(0)
    for start_seconds, frame in _timed_frames(reader, rate):
        if frame is not last:
            pixels, last = frame.pixels[None], frame
            short = spec.short_side_px
            resized = resize_frames(pixels, short) if size is None else resize_frames_to(pixels, *size)
        frames.append(resized)
        seconds.append(start_seconds)
        if len(frames) == BLOCK_FRAMES:
            yield _clip(frames, seconds, reader)
            frames, seconds = [], []
    reader.damage_notes(damaged)
    if frames:
        yield _clip(frames, seconds, reader)


def repeat_edges(clips: Iterable[Clip], before: int, after: int, frame_seconds: float) -> Iterator[Clip]:
    """Repeat the first frame ``before`` times at the start and the last frame ``after`` times at the end."""
    last: Clip | None = None
    for clip in clips:
        if last is None and before:
            yield _repeat(clip, 0, -frame_seconds * torch.arange(before, 0, -1))
        yield clip
        last = clip
    if last is not None and after:
        yield _repeat(last, len(last) - 1, frame_seconds * torch.arange(1, after + 1))


def add_flow(
    clips: Iterable[Clip], source: FlowSource, *, stored: tuple[float, int] | None, device: torch.device
) -> Iterator[Clip]:
    """Add optical flow from each frame to the next; the last frame of the video repeats the flow before it.

    Args:
        clips: Consecutive clips.
        source: Source of the flow.
        stored: Frame rate and short side of the clips if stored flow may be used; None to always estimate.
        device: Where flow is estimated.
    """
    first = 0
    previous: Clip | None = None
    flow: Tensor | None = None
    for clip in clips:
        if previous is not None:
            joined = _join(previous, clip.take(torch.tensor([0])))
            flow = _flow(joined, source, stored, first, device)[: len(previous)]
            yield replace(previous, flow=flow)
            first += len(previous)
        previous = clip
    if previous is None:
        return
    if len(previous) > 1:
        flow = _flow(previous, source, stored, first, device)
    elif flow is None:
        flow = torch.zeros(1, 2, previous.height, previous.width)  # a video of a single frame has no motion
    yield replace(previous, flow=flow[-len(previous) :])


def crop(clips: Iterable[Clip], preset: FeaturePreset, spec: ModelSpec) -> Iterator[CroppedFrames]:
    """Crop clips and encode their flow as bytes with 256 levels."""
    for clip in clips:
        center = preset.crop == "center"
        squares = [transforms.center_crop(clip, spec.size_px)] if center else transforms.ten_crops(clip, spec.size_px)
        streams: dict[StreamKind, Tensor] = {"rgb": torch.stack([s.frames for s in squares], 1)}
        if clip.flow is not None:
            streams["flow"] = torch.stack([encode_flow(s.flow) for s in squares if s.flow is not None], 1)
        yield CroppedFrames(streams, clip.pts_seconds.tolist())


def _timed_frames(reader: VideoReader, rate: float | None) -> Iterator[tuple[float, VideoFrame]]:
    """Start time of each frame, resampled to ``rate`` or as in the file."""
    if rate is None:
        return ((frame.pts_seconds, frame) for frame in reader.frames())
    return ((reader.frame_seconds(index, rate), frame) for index, frame in reader.resampled_frames(rate))


def _clip(frames: list[Tensor], seconds: list[float], reader: VideoReader) -> Clip:
    return Clip(torch.cat(frames), torch.tensor(seconds, dtype=torch.float64), source=str(reader.path))


def _repeat(clip: Clip, index: int, offsets: Tensor) -> Clip:
    """Repeat one frame of a clip at time offsets from its own."""
    frames = clip.frames[index : index + 1].expand(len(offsets), -1, -1, -1)
    return Clip(frames, clip.pts_seconds[index] + offsets, source=clip.source)


def _join(first: Clip, second: Clip) -> Clip:
    seconds = torch.cat([first.pts_seconds, second.pts_seconds])
    return Clip(torch.cat([first.frames, second.frames]), seconds, source=first.source)


def _flow(clip: Clip, source: FlowSource, stored: tuple[float, int] | None, first: int, device: torch.device) -> Tensor:
    """Flow of a clip, float32 (T, 2, H, W); the last frame repeats the flow before it."""
    if stored is None and source.folder is not None:
        raise InvalidInputError(
            f"the flow in {source.folder} cannot be used because the preset changes the frames (rate, aspect or "
            "padding): leave out the flow folder to compute flow"
        )
    if stored is not None and source.find(clip.source) is not None:
        flow = source.add_to(clip, fps=stored[0], short_side_px=stored[1], first_frame_index=first).flow
        assert flow is not None
        return flow
    flow = estimate_flow(clip.frames, source.method, device=device)
    return torch.cat([flow, flow[-1:]])
