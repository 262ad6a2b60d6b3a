"""Small videos made on the fly."""

from pathlib import Path

import numpy as np
import torch

from quovadis.video.writer import write_video

SHARED = Path(__file__).parent.parent.parent / "shared"
"""Reference data beside the checkout; may be absent."""


def moving_square(num_frames: int = 30, height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    """uint8 (T, 3, H, W): a bright square that moves over fixed noise; every frame differs from every other."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 90, (1, 3, height, width), dtype=np.uint8), num_frames, axis=0)
    for t in range(num_frames):
        left = t % max(width - 10, 1)
        frames[t, :, 8:18, left : left + 10] = 200
        frames[t, :, 0, 0] = t
    return torch.from_numpy(frames)


def write_square(path: Path, *, seed: int, reverse: bool = False, num_frames: int = 24) -> Path:
    """A small video of a square that moves right, or left when reversed."""
    frames = moving_square(num_frames, 40, 48, seed)
    return write_video(path, frames.flip(0) if reverse else frames, fps=25, options={"preset": "ultrafast"})
