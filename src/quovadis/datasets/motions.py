"""The embedded datasets: real video files whose class is *what* moves and *how* it moves.

``motions`` has five textured things times five motions, 25 classes. ``motions-source`` has more videos of fewer
classes, and ``motions-target`` a few videos of other things that move otherwise: learn from the one what helps with the
other.

Position, size, angle, colors, background, speed, frame size, frame rate, camera jitter and noise are random. The pose
of the thing at any one moment has the same distribution whatever the motion is: a pose that moves does so as a triangle
wave over the range that a still pose is drawn from. So one frame tells the thing and never the motion: of ``motions``,
a network that sees a single frame is right one time in five at best.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from quovadis.datasets.manifest import SPLITS, Manifest, VideoRecord
from quovadis.errors import DatasetError, InvalidInputError
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.cache import cache_folder
from quovadis.runtime.jobs import run_jobs
from quovadis.video.clip import Clip
from quovadis.video.writer import write_video

THINGS = ("disc", "square", "triangle", "star", "ring")
MOTIONS = ("slides", "bounces", "drifts", "spins", "pulses")
OTHER_THINGS = ("cross", "moon", "bars")
OTHER_MOTIONS = ("rolls", "tumbles", "looms")

_MOVING = {
    "slides": ("x",),
    "bounces": ("y",),
    "drifts": ("x", "y"),
    "spins": ("angle",),
    "pulses": ("radius",),
    "rolls": ("x", "angle"),
    "tumbles": ("y", "angle"),
    "looms": ("y", "radius"),
}
# Full back-and-forths a second: in 16 frames (0.64 s) a thing crosses between a third and all of its range.
_SPEED_PER_SECOND = (0.3, 0.8)


@dataclass(frozen=True)
class MotionsConfig:
    """How much of it, and of what size."""

    train_per_class: int = 16
    val_per_class: int = 3
    test_per_class: int = 6
    size_px: int = 80
    """Height and width vary from 0.9 to 1.3 times this."""
    seconds: float = 2.0
    """Length varies from 0.8 to 1.2 times this."""
    seed: int = 0
    things: tuple[str, ...] = THINGS
    motions: tuple[str, ...] = MOTIONS

    @property
    def labels(self) -> tuple[str, ...]:
        """Every thing in every motion.

        >>> MotionsConfig().labels[:2], len(MotionsConfig().labels)
        (('disc slides', 'disc bounces'), 25)
        """
        return tuple(f"{thing} {motion}" for thing in self.things for motion in self.motions)

    def count(self, split: str) -> int:
        """Videos a class in a split."""
        return {"train": self.train_per_class, "val": self.val_per_class, "test": self.test_per_class}[split]

    @property
    def total(self) -> int:
        """Videos in all."""
        return len(self.labels) * sum(self.count(split) for split in SPLITS)


EMBEDDED = {
    "motions": MotionsConfig(),
    "motions-source": MotionsConfig(60, 6, 12, things=THINGS[:2] + THINGS[3:4], motions=("slides", "bounces", "spins")),
    "motions-target": MotionsConfig(10, 4, 12, things=OTHER_THINGS, motions=OTHER_MOTIONS),
}
"""Those that have a name."""


def load_motions(
    config: MotionsConfig | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    num_workers: int = 0,
    on_video: Callable[[int], None] | None = None,
) -> Manifest:
    """The dataset, written to disk if it is not there yet.

    Files are H.264 in MP4. Writing goes on where it stopped if it was interrupted. Splits never share a seed.

    Args:
        config: how many videos and how large.
        root: where to write; by default a folder of the user's cache named after the configuration.
        num_workers: processes that write; 0 writes here.
        on_video: called with the number of videos that are there.

    Raises:
        DatasetError: the folder holds motions of another configuration.
    """
    config = config or MotionsConfig()
    cached = "motions-" + hashlib.sha256(repr(astuple(config)).encode()).hexdigest()[:8]
    root = Path(root) if root is not None else cache_folder() / cached
    _claim_folder(root, config)
    takes = [
        _Take(config, root, split, label, number)
        for split in SPLITS
        for label in range(len(config.labels))
        for number in range(config.count(split))
    ]
    todo = [take for take in takes if not take.path.is_file()]
    with closing(run_jobs(_write, todo, num_workers=num_workers)) as work:
        for done, _ in enumerate(work, len(takes) - len(todo) + 1):
            if on_video is not None:
                on_video(done)
    records = [VideoRecord(take.path, take.label, take.split) for take in takes]
    _write_table(root, records, config.labels)
    name = next((name for name, known in EMBEDDED.items() if known == config), "motions")
    return Manifest(name, root, config.labels, tuple(records))


@dataclass(frozen=True)
class _Take:
    """One video to be written."""

    config: MotionsConfig
    root: Path
    split: str
    label: int
    number: int

    @property
    def path(self) -> Path:
        return self.root / self.split / self.config.labels[self.label].replace(" ", "_") / f"{self.number:04d}.mp4"


def _write(take: _Take) -> None:
    clip = motions_clip(take.config, take.split, take.label, take.number)
    fps = round((len(clip) - 1) / float(clip.pts_seconds[-1]))
    write_video(take.path, clip.frames, fps=fps, options={"crf": "20", "preset": "veryfast"})


def motions_clip(config: MotionsConfig, split: str, label: int, number: int) -> Clip:
    """One video of the dataset as frames in memory, without a file.

    Args:
        config: its sizes and its seed.
        split: ``train``, ``val`` or ``test``.
        label: index into ``config.labels``.
        number: which one of the class; any number from 0 on, also beyond what a file was written for.

    >>> config = MotionsConfig()
    >>> clip = motions_clip(config, "train", label=3, number=0)
    >>> config.labels[3], clip.frames.dtype, len(clip) > 30
    ('disc spins', torch.uint8, True)
    """
    labels = config.labels
    if not 0 <= label < len(labels):
        raise InvalidInputError(f"motions has labels 0 to {len(labels) - 1}; got {label}")
    rng = np.random.default_rng([config.seed, SPLITS.index(split), label, number])
    thing, motion = labels[label].split()
    height, width = (2 * round(config.size_px * rng.uniform(0.9, 1.3) / 2) for _ in range(2))
    fps = int(rng.choice([20, 25, 30]))
    seconds = np.arange(round(config.seconds * rng.uniform(0.8, 1.2) * fps)) / fps
    pose = _poses(motion, seconds, rng)
    frames = _render(thing, pose, height, width, rng)
    return Clip(torch.from_numpy(frames), torch.from_numpy(seconds), source=f"motions/{split}/{labels[label]}/{number}")


def _poses(motion: str, seconds: NDArray[np.floating], rng: np.random.Generator) -> dict[str, NDArray[np.floating]]:
    """x, y and radius in [0, 1] of their ranges, and the angle in turns, at each time."""
    pose: dict[str, NDArray[np.floating]] = {}
    for name in ("x", "y", "radius", "angle"):
        phase = np.full_like(seconds, rng.uniform())
        speed = rng.uniform(*_SPEED_PER_SECOND) * rng.choice([-1, 1])
        if name in _MOVING[motion]:
            phase += speed * seconds
        pose[name] = (phase if name == "angle" else 1 - np.abs(2 * (phase % 1) - 1)).astype(np.float32)
    return pose


def _render(
    thing: str, pose: dict[str, NDArray[np.floating]], height: int, width: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """uint8 (T, 3, H, W): the thing at its poses over a background, shaken and noisy."""
    num_frames = len(pose["x"])
    short = min(height, width)
    jitter = np.cumsum(rng.normal(0, 0.25, (num_frames, 2)), 0).clip(-3, 3).astype(np.float32)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = short * (0.18 + 0.2 * pose["radius"])
    center_x = (0.28 + 0.44 * pose["x"]) * width + jitter[:, 0]
    center_y = (0.28 + 0.44 * pose["y"]) * height + jitter[:, 1]
    turn = 2 * np.pi * pose["angle"]
    dx = (columns[None] - center_x[:, None, None]) / radius[:, None, None]
    dy = (rows[None] - center_y[:, None, None]) / radius[:, None, None]
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    inside, texture = _thing(thing, cos * dx + sin * dy, cos * dy - sin * dx, radius[:, None, None])
    bright, dark = rng.uniform(190, 255, 3).astype(np.float32), rng.uniform(0, 65, 3).astype(np.float32)
    if rng.random() < 0.5:
        bright, dark = dark, bright
    paint = dark + (bright - dark) * texture[..., None]
    ground = _background(height, width, jitter, rng)
    picture = ground + (paint - ground) * inside[..., None]
    strength = np.float32(rng.uniform(2, 8))
    noise = strength * rng.standard_normal((num_frames, height, width, 1), np.float32)
    return np.ascontiguousarray((picture + noise).clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2))


def _thing(
    thing: str, u: NDArray[np.floating], v: NDArray[np.floating], radius: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """How much of each pixel the thing covers, and its texture, both in [0, 1], in its own upright coordinates."""
    distance = np.sqrt(u * u + v * v)
    around = np.arctan2(v, u) if thing in ("star", "ring") else u
    if thing == "disc":
        edge, texture = 1 - distance, (np.floor(u * 1.5 + 9) + np.floor(v * 1.5 + 9)) % 2
    elif thing == "square":
        edge, texture = 0.85 - np.maximum(np.abs(u), np.abs(v)), np.floor(u * 2.5 + 9) % 2
    elif thing == "triangle":
        edge = np.minimum(0.6 - v, np.minimum(0.6 + v / 2 - 0.866 * u, 0.6 + v / 2 + 0.866 * u))
        texture = (u * u + (v - 0.1) ** 2 > 0.1).astype(np.float32)
    elif thing == "star":
        edge, texture = 0.7 + 0.3 * np.cos(5 * around) - distance, (around > 0).astype(np.float32)
    elif thing == "ring":
        edge, texture = 0.25 - np.abs(distance - 0.75), np.floor(3 * around / np.pi + 9) % 2
    elif thing == "cross":
        arms = np.minimum(np.abs(u), np.abs(v))
        edge, texture = np.minimum(0.3 - arms, 0.95 - np.maximum(np.abs(u), np.abs(v))), (u > v).astype(np.float32)
    elif thing == "moon":
        edge = np.minimum(1 - distance, np.sqrt((u - 0.55) ** 2 + v * v) - 0.65)
        texture = np.floor(v * 2 + 9) % 2
    else:  # bars
        edge = np.minimum(0.22 - np.abs(np.abs(u) - 0.5), 0.9 - np.abs(v))
        texture = (u * v > 0).astype(np.float32)
    return (edge * radius + 0.5).clip(0, 1), texture


def _background(
    height: int, width: int, jitter: NDArray[np.floating], rng: np.random.Generator
) -> NDArray[np.floating]:
    """(T, H, W, 3): a smooth random texture that moves with the camera and with nothing else."""
    coarse = torch.from_numpy(rng.uniform(80, 175, (1, 3, *rng.integers(3, 9, 2))).astype(np.float32))
    margin = 4
    size = (height + 2 * margin, width + 2 * margin)
    smooth = F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)[0].permute(1, 2, 0).numpy()
    shifts = np.rint(jitter).astype(int)
    return np.stack([smooth[margin - y : margin - y + height, margin - x : margin - x + width] for x, y in shifts])


def _claim_folder(root: Path, config: MotionsConfig) -> None:
    """Note the configuration in the folder, so that videos of two are never mixed."""
    note = root / "motions.json"
    text = json.dumps(asdict(config), indent=2) + "\n"
    if note.is_file() and note.read_text() != text:
        raise DatasetError(f"{root} holds motions made with other settings (see motions.json): choose another folder")
    if not note.is_file():
        write_atomically(note, text)


def _write_table(root: Path, records: list[VideoRecord], labels: tuple[str, ...]) -> None:
    """``motions.csv``, so that the folder is also an example of the table format."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "split"])
    writer.writerows([r.path.relative_to(root).as_posix(), labels[r.label], r.split] for r in records)
    table = root / "motions.csv"
    if not table.is_file() or table.read_text() != text.getvalue():
        write_atomically(table, text.getvalue())
