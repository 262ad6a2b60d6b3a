"""Small videos made on the fly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from quovadis.flow.codec import decode_flow
from quovadis.types import Clip
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


def numbered_clip(num_frames: int, size_px: int = 16) -> Clip:
    """A clip that tells which frame is which: pixels and flow bytes of frame t are t (modulo 256)."""
    numbers = torch.arange(num_frames).remainder(256).to(torch.uint8).view(-1, 1, 1, 1)
    clip = Clip(numbers.expand(-1, 3, size_px, size_px).contiguous(), torch.arange(num_frames) / 25)
    return with_numbered_flow(clip)


def with_numbered_flow(clip: Clip, **_: object) -> Clip:
    """In the place of ``flow_for_clip``: flow whose bytes are the pixels of its frame."""
    return replace(clip, flow=decode_flow(clip.frames[:, :2].contiguous()))


def numbers_of(stream: torch.Tensor) -> list[int]:
    """Which frames of a numbered clip a stream (T, C, H, W) holds; every pixel has to say the same."""
    numbers = stream[:, 0, 0, 0]
    assert torch.equal(stream, numbers.view(-1, 1, 1, 1).expand_as(stream))
    return numbers.tolist()
