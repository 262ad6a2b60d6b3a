"""Motions: synthetic datasets of moving shapes, written as video files, whose classes are pairs of shape and motion.

``motions`` has five shapes times five motions, 25 classes. ``motions-source`` and ``motions-target`` have disjoint
shapes and motions, for transfer learning: many videos of few classes, and few videos.

Position, size, angle, colors, background, speed, frame size, frame rate, camera jitter and noise are random. At any
time, the pose has the same distribution for all motions: a moving coordinate follows a triangle wave over the range
from which a static one is drawn. A single frame therefore shows the shape but not the motion, so that a single-frame
model is right on ``motions`` at most one time in five.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
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

SHAPES = ("disc", "square", "triangle", "star", "ring")
MOTIONS = ("slides", "bounces", "drifts", "spins", "pulses")
OTHER_SHAPES = ("cross", "moon", "bars")
OTHER_MOTIONS = ("rolls", "tumbles", "looms")

_MOVING_COORDINATES = {
    "slides": ("x",),
    "bounces": ("y",),
    "drifts": ("x", "y"),
    "spins": ("angle",),
    "pulses": ("radius",),
    "rolls": ("x", "angle"),
    "tumbles": ("y", "angle"),
    "looms": ("y", "radius"),
}
_CYCLES_PER_SECOND = (0.3, 0.8)
"""Range of speeds. In 16 frames (0.64 s) a shape crosses between a third and all of its range."""


@dataclass(frozen=True)
class MotionsConfig:
    """Number, size and classes of the videos.

    Example:
        >>> MotionsConfig(train_per_class=4, shapes=("disc", "star")).labels[:2]
        ('disc slides', 'disc bounces')
    """

    train_per_class: int = 16
    val_per_class: int = 3
    test_per_class: int = 6
    size_px: int = 80
    """Height and width vary from 0.9 to 1.3 times this."""
    seconds: float = 2.0
    """Durations vary from 0.8 to 1.2 times this."""
    seed: int = 0
    shapes: tuple[str, ...] = SHAPES
    motions: tuple[str, ...] = MOTIONS

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names: all pairs of shape and motion."""
        return tuple(f"{shape} {motion}" for shape in self.shapes for motion in self.motions)

    def count(self, split: str) -> int:
        """Return the number of videos per class in a split."""
        return {"train": self.train_per_class, "val": self.val_per_class, "test": self.test_per_class}[split]

    @property
    def total(self) -> int:
        """Number of videos in all splits."""
        return len(self.labels) * sum(self.count(split) for split in SPLITS)


EMBEDDED = {
    "motions": MotionsConfig(),
    "motions-source": MotionsConfig(60, 6, 12, shapes=SHAPES[:2] + SHAPES[3:4], motions=("slides", "bounces", "spins")),
    "motions-target": MotionsConfig(10, 4, 12, shapes=OTHER_SHAPES, motions=OTHER_MOTIONS),
}
"""Configurations by the name of the dataset, see :func:`quovadis.load_dataset`."""


def load_motions(
    config: MotionsConfig | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write the dataset unless it exists, and return its manifest.

    Videos are H.264 in MP4 and are deterministic. An interrupted call can be repeated; it continues.

    Args:
        config: Number, size and classes of the videos.
        root: Output folder; by default a folder in the user's cache named after the configuration.
        num_workers: Number of worker processes; 0 works in the calling process.
        progress: Progress callback, called with the number of videos done.

    Raises:
        DatasetError: If the folder contains motions with another configuration.

    Example:
        >>> config = MotionsConfig(1, 1, 1, shapes=("disc",), motions=("spins", "slides"))
        >>> load_motions(config, root=getfixture("tmp_path")).labels
        ('disc spins', 'disc slides')
    """
    config = config or MotionsConfig()
    cached = "motions-" + hashlib.sha256(repr(config).encode()).hexdigest()[:8]
    root = Path(root) if root is not None else cache_folder() / cached
    _claim_folder(root, config)
    jobs = [
        _VideoJob(config, root, split, label, number)
        for split in SPLITS
        for label in range(len(config.labels))
        for number in range(config.count(split))
    ]
    todo = [job for job in jobs if not job.path.is_file()]
    with closing(run_jobs(_write, todo, num_workers=num_workers)) as work:
        for num_done, _ in enumerate(work, len(jobs) - len(todo) + 1):
            if progress is not None:
                progress(num_done)
    records = [VideoRecord(job.path, job.label, job.split) for job in jobs]
    _write_table(root, records, config.labels)
    name = next((name for name, known in EMBEDDED.items() if known == config), "motions")
    return Manifest(name, root, config.labels, tuple(records))


@dataclass(frozen=True)
class _VideoJob:
    """One video to write."""

    config: MotionsConfig
    root: Path
    split: str
    label: int
    number: int

    @property
    def path(self) -> Path:
        return self.root / self.split / self.config.labels[self.label].replace(" ", "_") / f"{self.number:04d}.mp4"


def _write(job: _VideoJob) -> None:
    clip = motions_clip(job.config, job.split, job.label, job.number)
    fps = round((len(clip) - 1) / float(clip.pts_seconds[-1]))
    write_video(job.path, clip.frames, fps=fps, options={"crf": "20", "preset": "veryfast"})


def motions_clip(config: MotionsConfig, split: str, label: int, number: int) -> Clip:
    """Render one video of the dataset in memory.

    Args:
        config: Size, classes and seed of the dataset.
        split: ``train``, ``val`` or ``test``.
        label: Index into ``config.labels``.
        number: Index of the video within its class and split, from 0; may exceed the number of written files.

    Raises:
        InvalidInputError: If there is no such label.

    Example:
        >>> config = MotionsConfig()
        >>> clip = motions_clip(config, "train", label=3, number=0)
        >>> config.labels[3], clip.frames.dtype, len(clip) > 30
        ('disc spins', torch.uint8, True)
    """
    labels = config.labels
    if not 0 <= label < len(labels):
        raise InvalidInputError(f"motions has labels 0 to {len(labels) - 1}; got {label}")
    rng = np.random.default_rng([config.seed, SPLITS.index(split), label, number])
    shape, motion = labels[label].split()
    height, width = (2 * round(config.size_px * rng.uniform(0.9, 1.3) / 2) for _ in range(2))
    fps = int(rng.choice([20, 25, 30]))
    seconds = np.arange(round(config.seconds * rng.uniform(0.8, 1.2) * fps)) / fps
    pose = _poses(motion, seconds, rng)
    frames = _render(shape, pose, height, width, rng)
    return Clip(torch.from_numpy(frames), torch.from_numpy(seconds), source=f"motions/{split}/{labels[label]}/{number}")


def _poses(motion: str, seconds: NDArray[np.floating], rng: np.random.Generator) -> dict[str, NDArray[np.floating]]:
    """Return x, y and radius as fractions of their ranges, and the angle in turns, at each time."""
    pose: dict[str, NDArray[np.floating]] = {}
    for name in ("x", "y", "radius", "angle"):
        phase = np.full_like(seconds, rng.uniform())
        speed = rng.uniform(*_CYCLES_PER_SECOND) * rng.choice([-1, 1])
        if name in _MOVING_COORDINATES[motion]:
            phase += speed * seconds
        pose[name] = (phase if name == "angle" else 1 - np.abs(2 * (phase % 1) - 1)).astype(np.float32)
    return pose


def _render(
    shape: str, pose: dict[str, NDArray[np.floating]], height: int, width: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Render frames, uint8 (T, 3, H, W): the shape over a background, with camera jitter and noise."""
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
    inside, texture = _shape(shape, cos * dx + sin * dy, cos * dy - sin * dx, radius[:, None, None])
    bright, dark = rng.uniform(190, 255, 3).astype(np.float32), rng.uniform(0, 65, 3).astype(np.float32)
    if rng.random() < 0.5:
        bright, dark = dark, bright
    foreground = dark + (bright - dark) * texture[..., None]
    background = _background(height, width, jitter, rng)
    frames = background + (foreground - background) * inside[..., None]
    noise_std = np.float32(rng.uniform(2, 8))
    noise = noise_std * rng.standard_normal((num_frames, height, width, 1), np.float32)
    return np.ascontiguousarray((frames + noise).clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2))


def _shape(
    shape: str, u: NDArray[np.floating], v: NDArray[np.floating], radius: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the coverage of each pixel by the shape, and its texture, both in [0, 1], in the shape's coordinates."""
    distance = np.sqrt(u * u + v * v)
    angle = np.arctan2(v, u) if shape in ("star", "ring") else u
    if shape == "disc":
        edge, texture = 1 - distance, (np.floor(u * 1.5 + 9) + np.floor(v * 1.5 + 9)) % 2
    elif shape == "square":
        edge, texture = 0.85 - np.maximum(np.abs(u), np.abs(v)), np.floor(u * 2.5 + 9) % 2
    elif shape == "triangle":
        edge = np.minimum(0.6 - v, np.minimum(0.6 + v / 2 - 0.866 * u, 0.6 + v / 2 + 0.866 * u))
        texture = (u * u + (v - 0.1) ** 2 > 0.1).astype(np.float32)
    elif shape == "star":
        edge, texture = 0.7 + 0.3 * np.cos(5 * angle) - distance, (angle > 0).astype(np.float32)
    elif shape == "ring":
        edge, texture = 0.25 - np.abs(distance - 0.75), np.floor(3 * angle / np.pi + 9) % 2
    elif shape == "cross":
        arms = np.minimum(np.abs(u), np.abs(v))
        edge, texture = np.minimum(0.3 - arms, 0.95 - np.maximum(np.abs(u), np.abs(v))), (u > v).astype(np.float32)
    elif shape == "moon":
        edge = np.minimum(1 - distance, np.sqrt((u - 0.55) ** 2 + v * v) - 0.65)
        texture = np.floor(v * 2 + 9) % 2
    else:  # bars
        edge = np.minimum(0.22 - np.abs(np.abs(u) - 0.5), 0.9 - np.abs(v))
        texture = (u * v > 0).astype(np.float32)
    return (edge * radius + 0.5).clip(0, 1), texture


def _background(
    height: int, width: int, jitter: NDArray[np.floating], rng: np.random.Generator
) -> NDArray[np.floating]:
    """Return a smooth random texture (T, H, W, 3) that moves with the camera."""
    coarse = torch.from_numpy(rng.uniform(80, 175, (1, 3, *rng.integers(3, 9, 2))).astype(np.float32))
    margin = 4
    size = (height + 2 * margin, width + 2 * margin)
    smooth = F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)[0].permute(1, 2, 0).numpy()
    shifts = np.rint(jitter).astype(int)
    return np.stack([smooth[margin - y : margin - y + height, margin - x : margin - x + width] for x, y in shifts])


def _claim_folder(root: Path, config: MotionsConfig) -> None:
    """Store the configuration in the folder, so that videos of different configurations are never mixed."""
    file = root / "motions.json"
    text = json.dumps(asdict(config), indent=2) + "\n"
    if not file.is_file():
        write_atomically(file, text)
    elif file.read_text() != text:
        raise DatasetError(f"{root} contains motions of another configuration, see motions.json: choose another folder")


def _write_table(root: Path, records: list[VideoRecord], labels: tuple[str, ...]) -> None:
    """Write ``motions.csv``, so that the folder is also an example of the table format."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "split"])
    writer.writerows([r.path.relative_to(root).as_posix(), labels[r.label], r.split] for r in records)
    table = root / "motions.csv"
    if not table.is_file() or table.read_text() != text.getvalue():
        write_atomically(table, text.getvalue())
