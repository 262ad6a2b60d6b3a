"""Example videos for the web demo: files of a folder, or drawn videos of classes that the model has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.datasets.scenes import SCENE_LABELS, draw_scene
from quovadis.errors import InvalidInputError, VideoError
from quovadis.report.dataset_page import middle_frame
from quovadis.video.resize import resize_frames
from quovadis.video.writer import write_video
from quovadis.web.limits import Limits

_MAX_EXAMPLES = 12
_SEQUENCE_LABELS = ("disc spins", "star slides", "square pulses", "ring bounces")
_SINGLE_LABELS = ("triangle drifts", "star spins", "disc slides")
_SCENE_SECONDS = 3.2


@dataclass(frozen=True)
class Example:
    """A video with a thumbnail."""

    path: Path
    caption: str
    thumbnail: Tensor
    """uint8 (3, h, w)."""


def folder_examples(folder: str | Path, limits: Limits) -> list[Example]:
    """Select the first videos of a folder by name that are within the limits, at most twelve.

    Raises:
        InvalidInputError: If the folder does not exist or contains no such video.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInputError(f"--examples must be a folder of videos; {folder} is not a folder")
    found: list[Example] = []
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        if len(found) == _MAX_EXAMPLES:
            break
        try:
            limits.check(path)
        except (VideoError, InvalidInputError):
            continue  # not a video, such as a list of labels, or beyond the limits
        thumbnail = middle_frame(path)
        if thumbnail is not None:
            found.append(Example(path.resolve(), path.stem, thumbnail))
    if not found:
        raise InvalidInputError(
            f"no file in {folder} is a video within the limits; see --max-mib, --max-seconds and --max-megapixels"
        )
    return found


def fitting_examples(labels: Sequence[str], folder: str | Path) -> list[Example]:
    """Write examples of classes that the model has: of ``motions`` or of Kinetics. Return none for other models."""
    if set(labels) == set(MotionsConfig().labels):
        return motions_examples(folder)
    return scene_examples(folder) if set(SCENE_LABELS) <= set(labels) else []


def scene_examples(folder: str | Path) -> list[Example]:
    """Draw one video of three actions in turn, and a video of each."""
    folder = Path(folder)
    clips = {label: draw_scene(label, seconds=_SCENE_SECONDS) for label in SCENE_LABELS}
    frames = {"three actions in turn": torch.cat([clip.frames for clip in clips.values()])}
    frames |= {label: clip.frames for label, clip in clips.items()}
    return [_write_example(folder, caption, of_video, fps=25) for caption, of_video in frames.items()]


def motions_examples(folder: str | Path) -> list[Example]:
    """Write a video of four motions in sequence, and three videos of one motion each.

    The videos are from the test distribution and are not part of any split.
    """
    folder = Path(folder)
    examples = [_write_example(folder, "four motions in turn", _sequence_frames(), fps=25)]
    for label in _SINGLE_LABELS:
        clip = motions_clip(MotionsConfig(), "test", MotionsConfig().labels.index(label), number=1000)
        fps = round((len(clip) - 1) / float(clip.pts_seconds[-1]))
        examples.append(_write_example(folder, label, clip.frames, fps=fps))
    return examples


def _write_example(folder: Path, caption: str, frames: Iterable[Tensor], *, fps: int) -> Example:
    path = write_video(folder / f"{caption.replace(' ', '_')}.mp4", frames, fps=fps, options={"crf": "18"})
    thumbnail = middle_frame(path)
    assert thumbnail is not None
    return Example(path, caption, thumbnail)


def _sequence_frames() -> Iterator[Tensor]:
    """The frames of four motions in sequence, all of one size."""
    for label in _SEQUENCE_LABELS:
        clip = motions_clip(MotionsConfig(seconds=2.4), "test", MotionsConfig().labels.index(label), number=1001)
        small = replace(clip, frames=resize_frames(clip.frames, 80))
        yield from transforms.center_crop(small, 80).frames
