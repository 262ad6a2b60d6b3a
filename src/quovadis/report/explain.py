"""Write class activation maps of a video as an MP4 with overlay, a filmstrip and arrays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from quovadis.errors import VideoError
from quovadis.inference.activation_maps import ActivationMaps
from quovadis.inference.recognizer import Recognizer
from quovadis.report.activation_maps import draw_filmstrip, full_color_evidence, overlay_maps
from quovadis.runtime.atomic import write_atomically
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.writer import write_video

OVERLAY_FPS = 25
_NUM_FRAMES = 8


def write_explanation(explanation: ActivationMaps, folder: str | PathLike[str]) -> list[Path]:
    """Write ``NAME.explain.mp4``, ``.png`` and ``.npz``.

    The MP4 and the PNG show the first class of ``explanation``; the arrays contain all of them.

    Args:
        explanation: Maps of a video file that still exists.
        folder: Output folder.

    Returns:
        The paths of the three files.

    Raises:
        VideoError: If the video cannot be read.
        StorageError: If a file cannot be written.

    Example:
        >>> explanation = quovadis.Recognizer.load().explain("video.mp4")  # doctest: +SKIP
        >>> files = write_explanation(explanation, "maps/")  # doctest: +SKIP
    """
    source = Path(explanation.prediction.source)
    stem = Path(folder) / f"{source.stem}.explain"
    video = write_video(
        stem.with_name(f"{stem.name}.mp4"),
        overlay_frames(explanation, source),
        fps=OVERLAY_FPS,
        options={"crf": "20", "preset": "veryfast"},
    )
    image = write_atomically(stem.with_name(f"{stem.name}.png"), draw_explanation(explanation, source))
    return [video, image, explanation.save(stem.with_name(f"{stem.name}.npz"))]


def overlay_frames(explanation: ActivationMaps, source: Path) -> Iterator[Tensor]:
    """Yield the frames of a video at 25 fps with the map of the first class, uint8 (3, H, W)."""
    with VideoReader(source) as reader:
        resize = partial(resize_frames, short_side_px=explanation.short_side_px)
        origin = reader.first_pts_seconds
        for index, frame in reader.resampled_frames(OVERLAY_FPS):
            seconds = torch.tensor([origin + index / OVERLAY_FPS])
            yield _overlay(explanation, resize(frame.pixels[None]), seconds)[0]


def draw_explanation(explanation: ActivationMaps, source: Path) -> bytes:
    """Draw evenly spaced frames with the map of the first class as a PNG.

    Raises:
        VideoError: If the video has no frames.
    """
    times, drawn = draw_explanation_frames(explanation, source)
    label = explanation.labels[0]
    probability = float(explanation.prediction.probabilities[explanation.prediction.labels.index(label)])
    return draw_filmstrip(drawn, times, title=f"{source.name}: evidence for {label} ({probability:.1%})")


def draw_explanation_frames(explanation: ActivationMaps, source: Path) -> tuple[list[float], Tensor]:
    """Draw the map of the first class over evenly spaced frames.

    Returns:
        Times of the frames in seconds, and the frames, uint8 (T, 3, H, W).

    Raises:
        VideoError: If the video has no frames.
    """
    windows = explanation.prediction.windows
    start, stop = windows[0].start_seconds, windows[-1].stop_seconds
    frames, times = [], []
    with VideoReader(source) as reader:
        for i in range(_NUM_FRAMES):
            seconds = start + (i + 0.5) * (stop - start) / _NUM_FRAMES
            frame = next(reader.frames(seconds), None)
            if frame is not None:
                frames.append(resize_frames(frame.pixels[None], explanation.short_side_px))
                times.append(seconds)
    if not frames:
        raise VideoError(f"{source} has no frames")
    return times, _overlay(explanation, torch.cat(frames), torch.tensor(times))


def select_explainable(recognizer: Recognizer) -> Recognizer | None:
    """Select the networks of a recognizer to explain on a page: its RGB networks, or all if it has none.

    RGB networks are preferred because their maps need no optical flow.

    Returns:
        A recognizer, or None if one of its networks has no class activation maps.
    """
    rgb = [model for model in recognizer.models if not model.spec.needs_flow]
    part = recognizer
    if rgb and len(rgb) < len(recognizer.models):
        part = Recognizer(rgb, recognizer.labels, device=recognizer.device)
    return part if part.has_class_maps else None


def _overlay(explanation: ActivationMaps, frames: Tensor, seconds: Tensor) -> Tensor:
    label = explanation.labels[0]
    max_evidence = full_color_evidence(explanation.map_of(label))
    return overlay_maps(frames, explanation.at(seconds, label), max_evidence=max_evidence, crop_px=explanation.crop_px)
