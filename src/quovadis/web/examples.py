"""Example videos for the web demo: files of a folder, or videos drawn from the built-in ``motions`` dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from quovadis import transforms
from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.errors import InvalidInputError, VideoError
from quovadis.report.dataset_page import middle_frame
from quovadis.video.resize import resize_frames
from quovadis.video.writer import write_video
from quovadis.web.limits import Limits

_MAX_EXAMPLES = 12
_SEQUENCE_LABELS = ("disc spins", "star slides", "square pulses", "ring bounces")
_SINGLE_LABELS = ("triangle drifts", "star spins", "disc slides")


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
    """Write ``motions`` examples if these are the classes of the model; otherwise return none."""
    return motions_examples(folder) if set(labels) == set(MotionsConfig().labels) else []


def motions_examples(folder: str | Path) -> list[Example]:
    """Write a video of four motions in sequence, and three videos of one motion each.

    The videos are from the test distribution and are not part of any split.
    """
    folder = Path(folder)
    sequence = folder / "four_motions_in_turn.mp4"
    write_video(sequence, _sequence_frames(), fps=25, options={"crf": "18"})
    paths = [sequence]
    for label in _SINGLE_LABELS:
        clip = motions_clip(MotionsConfig(), "test", MotionsConfig().labels.index(label), number=1000)
        fps = round((len(clip) - 1) / float(clip.pts_seconds[-1]))
        paths.append(
            write_video(folder / f"{label.replace(' ', '_')}.mp4", clip.frames, fps=fps, options={"crf": "18"})
        )
    thumbnails = map(middle_frame, paths)
    return [Example(p, p.stem.replace("_", " "), t) for p, t in zip(paths, thumbnails, strict=True) if t is not None]


def _sequence_frames() -> Iterator[Tensor]:
    """The frames of four motions in sequence, all of one size."""
    for label in _SEQUENCE_LABELS:
        clip = motions_clip(MotionsConfig(seconds=2.4), "test", MotionsConfig().labels.index(label), number=1001)
        small = replace(clip, frames=resize_frames(clip.frames, 80))
        yield from transforms.center_crop(small, 80).frames
