"""A video as a stream of network inputs, at constant memory: decode, resize, flow, crop, each a step that can wait.

Every step takes an iterator of clips of consecutive frames and gives one, so that each can run in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.errors import InvalidInputError, VideoDamagedError
from quovadis.flow.codec import encode_flow
from quovadis.flow.estimate import estimate_flow
from quovadis.flow.source import FlowSource
from quovadis.inference.feature_presets import FeaturePreset
from quovadis.models.spec import ModelSpec, StreamKind
from quovadis.video.clip import Clip
from quovadis.video.frame import VideoFrame
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames, resize_frames_to

BLOCK_FRAMES = 32
"""Frames that go from step to step together."""


@dataclass(frozen=True)
class CroppedFrames:
    """Consecutive frames as networks see them, for every stream."""

    streams: dict[StreamKind, Tensor]
    """uint8 (T, crops, C, size, size)."""
    seconds: list[float]
    """When each frame begins, on the file's own clock."""


def decode(reader: VideoReader, preset: FeaturePreset, spec: ModelSpec) -> Iterator[Clip]:
    """The frames of a video at the rate of the preset, resized, in clips of up to 32.

    Raises:
        VideoDamagedError: at the end, if the file is damaged.
    """
    rate, size = preset.rate(spec), preset.size(spec)
    frames: list[Tensor] = []
    seconds: list[float] = []
    last: VideoFrame | None = None
    picture = torch.empty(0)
    for begins, frame in _timed_frames(reader, rate):
        if frame is not last:
            pixels, last = frame.pixels[None], frame
            short = spec.short_side_px
            picture = resize_frames(pixels, short) if size is None else resize_frames_to(pixels, *size)
        frames.append(picture)
        seconds.append(begins)
        if len(frames) == BLOCK_FRAMES:
            yield _clip(frames, seconds, reader)
            frames, seconds = [], []
    if reader.damage:
        raise VideoDamagedError(f"{reader.path} is damaged: {reader.damage}")
    if frames:
        yield _clip(frames, seconds, reader)


def repeat_edges(clips: Iterable[Clip], before: int, after: int, frame_seconds: float) -> Iterator[Clip]:
    """The same with the first frame repeated ``before`` times in front, and the last ``after`` times behind."""
    last: Clip | None = None
    for clip in clips:
        if last is None and before:
            yield _repeated(clip, 0, -frame_seconds * torch.arange(before, 0, -1))
        yield clip
        last = clip
    if last is not None and after:
        yield _repeated(last, len(last) - 1, frame_seconds * torch.arange(1, after + 1))


def add_flow(
    clips: Iterable[Clip], source: FlowSource, *, stored: tuple[float, int] | None, device: torch.device
) -> Iterator[Clip]:
    """The same with flow from each frame to the next; that of the last frame of the video is repeated.

    Args:
        clips: consecutive.
        source: where flow comes from.
        stored: frames a second and short side of the clips where stored flow may be used; None estimates always.
        device: where it is estimated.
    """
    first = 0
    waiting: Clip | None = None
    flow: Tensor | None = None
    for clip in clips:
        if waiting is not None:
            joined = _joined(waiting, clip.take(torch.tensor([0])))
            flow = _flow(joined, source, stored, first, device)[: len(waiting)]
            yield Clip(waiting.frames, waiting.pts_seconds, flow, waiting.source)
            first += len(waiting)
        waiting = clip
    if waiting is None:
        return
    if len(waiting) > 1:
        flow = _flow(waiting, source, stored, first, device)
    elif flow is None:
        flow = torch.zeros(1, 2, waiting.height, waiting.width)  # a video of a single frame does not move
    yield Clip(waiting.frames, waiting.pts_seconds, flow[-len(waiting) :], waiting.source)


def crop(clips: Iterable[Clip], preset: FeaturePreset, spec: ModelSpec) -> Iterator[CroppedFrames]:
    """What the networks see of the clips: squares as bytes, flow in its 256 levels."""
    for clip in clips:
        center = preset.crop == "center"
        squares = [transforms.center_crop(clip, spec.size_px)] if center else transforms.ten_crops(clip, spec.size_px)
        streams: dict[StreamKind, Tensor] = {"rgb": torch.stack([s.frames for s in squares], 1)}
        if clip.flow is not None:
            streams["flow"] = torch.stack([encode_flow(s.flow) for s in squares if s.flow is not None], 1)
        yield CroppedFrames(streams, clip.pts_seconds.tolist())


def _timed_frames(reader: VideoReader, rate: float | None) -> Iterator[tuple[float, VideoFrame]]:
    """When each frame begins: on a grid, or as the file says."""
    if rate is None:
        yield from ((frame.pts_seconds, frame) for frame in reader.frames())
        return
    yield from ((reader.frame_seconds(tick, rate), frame) for tick, frame in reader.resampled_frames(rate))


def _clip(frames: list[Tensor], seconds: list[float], reader: VideoReader) -> Clip:
    return Clip(torch.cat(frames), torch.tensor(seconds, dtype=torch.float64), source=str(reader.path))


def _repeated(clip: Clip, index: int, offsets: Tensor) -> Clip:
    """One frame of a clip, again and again, at these times from its own."""
    frames = clip.frames[index : index + 1].expand(len(offsets), -1, -1, -1)
    return Clip(frames, clip.pts_seconds[index] + offsets, source=clip.source)


def _joined(first: Clip, second: Clip) -> Clip:
    seconds = torch.cat([first.pts_seconds, second.pts_seconds])
    return Clip(torch.cat([first.frames, second.frames]), seconds, source=first.source)


def _flow(clip: Clip, source: FlowSource, stored: tuple[float, int] | None, first: int, device: torch.device) -> Tensor:
    """float32 (T, 2, H, W), the last one repeated."""
    if stored is None and source.folder is not None:
        raise InvalidInputError(
            f"flow stored in {source.folder} does not fit these features, which read other frames (the preset's rate, "
            "aspect or padding): leave the flow folder out to have flow computed"
        )
    if stored is not None and source.find(clip.source) is not None:
        flow = source.add_to(clip, fps=stored[0], short_side_px=stored[1], first_tick=first).flow
        assert flow is not None
        return flow
    flow = estimate_flow(clip.frames, source.method, device=device)
    return torch.cat([flow, flow[-1:]])
