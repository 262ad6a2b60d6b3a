"""Videos to try a page with: those of a folder, or some of the embedded ``motions``, made on the fly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from quovadis import transforms
from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.errors import InvalidInputError, VideoError
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.writer import write_video
from quovadis.web.limits import Limits

_MOST = 12
_THUMBNAIL_PX = 120
_STORY = ("disc spins", "star slides", "square pulses", "ring bounces")
_SINGLE = ("triangle drifts", "star spins", "disc slides")


@dataclass(frozen=True)
class Example:
    """A video with a picture of it."""

    path: Path
    caption: str
    thumbnail: Tensor
    """uint8 (3, h, w)."""


def folder_examples(folder: str | Path, limits: Limits) -> list[Example]:
    """The first videos of a folder by name, twelve at most, that are within the limits.

    Raises:
        InvalidInputError: no folder, or no such video in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInputError(f"--examples takes a folder of videos; {folder} is none")
    found: list[Example] = []
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        if len(found) == _MOST:
            break
        try:
            limits.check(path)
            found.append(Example(path.resolve(), path.stem, _thumbnail(path)))
        except (VideoError, InvalidInputError):
            continue  # a list of labels beside the videos, or a film that is too long
    if not found:
        raise InvalidInputError(f"no file in {folder} is a video that this page takes")
    return found


def fitting_examples(labels: Sequence[str], folder: str | Path) -> list[Example]:
    """Write the drawn ``motions`` for a model that knows them; none for a model of other classes."""
    return motions_examples(folder) if set(labels) == set(MotionsConfig().labels) else []


def motions_examples(folder: str | Path) -> list[Example]:
    """Write a video of four motions one after the other, and some of one motion, into a folder.

    They are drawn as those of the test split are, and training never saw them.
    """
    folder = Path(folder)
    story = folder / "four_motions_in_turn.mp4"
    write_video(story, _story(), fps=25, options={"crf": "18"})
    paths = [story]
    for label in _SINGLE:
        clip = motions_clip(MotionsConfig(), "test", MotionsConfig().labels.index(label), number=1000)
        fps = round((len(clip) - 1) / float(clip.pts_seconds[-1]))
        paths.append(
            write_video(folder / f"{label.replace(' ', '_')}.mp4", clip.frames, fps=fps, options={"crf": "18"})
        )
    return [Example(path, path.stem.replace("_", " "), _thumbnail(path)) for path in paths]


def _story() -> Iterator[Tensor]:
    """The frames of some motions after each other, in one size."""
    for label in _STORY:
        clip = motions_clip(MotionsConfig(seconds=2.4), "test", MotionsConfig().labels.index(label), number=1001)
        small = replace(clip, frames=resize_frames(clip.frames, 80))
        yield from transforms.center_crop(small, 80).frames


def _thumbnail(path: Path) -> Tensor:
    """A frame from the middle, a small one."""
    with VideoReader(path) as reader:
        frame = reader.frame_at(reader.first_pts_seconds + (reader.info.duration_seconds or 0.0) / 2)
        return resize_frames(frame.pixels[None], _THUMBNAIL_PX)[0]
