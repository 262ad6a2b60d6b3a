"""Generate small inputs for tests: videos, clips, logits, networks."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from quovadis.evaluation.dump import LogitDump
from quovadis.flow.codec import decode_flow
from quovadis.models.layers import ShiftBatchNorm
from quovadis.models.video_model import VideoModel
from quovadis.video.clip import Clip
from quovadis.video.writer import write_video

SHARED = Path(os.environ.get("QUOVADIS_SHARED") or Path(__file__).parent.parent.parent / "shared")
"""Folder of reference data next to the checkout; may be absent. Tests use the fixture ``shared``."""


def reference_data() -> Path:
    """Return the folder of reference data, or skip the calling test if it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference data in {SHARED}")
    return SHARED


def moving_square(num_frames: int = 30, height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    """Draw a bright square that moves over fixed noise, uint8 (T, 3, H, W). All frames differ."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 90, (1, 3, height, width), dtype=np.uint8), num_frames, axis=0)
    for t in range(num_frames):
        left = t % max(width - 10, 1)
        frames[t, :, 8:18, left : left + 10] = 200
        frames[t, :, 0, 0] = t
    return torch.from_numpy(frames)


def write_square(path: Path, *, seed: int, reverse: bool = False, num_frames: int = 24) -> Path:
    """Write a small video of a square that moves right, or left if ``reverse``."""
    frames = moving_square(num_frames, 40, 48, seed)
    return write_video(path, frames.flip(0) if reverse else frames, fps=25, options={"preset": "ultrafast"})


def random_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return random values for all tensors, so that swapped tensors are detected; variances are positive."""
    state = {name: torch.randn(tensor.shape) for name, tensor in model.state_dict().items()}
    return {name: values.abs() if name.endswith("running_var") else values for name, values in state.items()}


def numbered_clip(num_frames: int, size_px: int = 16) -> Clip:
    """Return a clip in which the pixels and flow bytes of frame t are t (modulo 256)."""
    numbers = torch.arange(num_frames).remainder(256).to(torch.uint8).view(-1, 1, 1, 1)
    clip = Clip(numbers.expand(-1, 3, size_px, size_px).contiguous(), torch.arange(num_frames) / 25)
    return with_numbered_flow(clip)


def with_numbered_flow(clip: Clip, **_: object) -> Clip:
    """Replacement for ``flow_for_clip``: add flow whose bytes are the pixels of its frame."""
    return replace(clip, flow=decode_flow(clip.frames[:, :2].contiguous()))


def numbers_of(stream: torch.Tensor) -> list[int]:
    """Return the frame numbers in a stream (T, C, H, W) of a numbered clip; all pixels of a frame must agree."""
    numbers = stream[:, 0, 0, 0]
    assert torch.equal(stream, numbers.view(-1, 1, 1, 1).expand_as(stream))
    return numbers.tolist()


def dump_of(logits: torch.Tensor, targets: Sequence[int] | None = None, **changes: object) -> LogitDump:
    """Create a dump of logits (streams, videos, classes) with generic names; targets are class 0 by default."""
    streams, videos, classes = logits.shape
    fields = {
        "dataset": "toy",
        "data_fingerprint": "0123456789ab",
        "split": "test",
        "models": tuple(f"i3d ({kind})" for kind in ("rgb", "flow", "more")[:streams]),
        "protocols": ("paper",) * streams,
        "labels": tuple("abcdefg"[:classes]),
        "paths": tuple(f"{i}.mp4" for i in range(videos)),
        "errors": ("",) * videos,
        "targets": torch.tensor(targets or [0] * videos),
        "logits": logits,
    }
    return LogitDump(**{**fields, **changes})  # type: ignore[arg-type]


def awake(model: VideoModel, seed: int = 0) -> VideoModel:
    """Calibrate a randomly initialized network, so that its features are of order one and differ between clips.

    Activations of initial weights shrink with depth, and errors become smaller than test tolerances. Here the batch
    norms use the statistics of a clip of moving stripes. The network is returned in evaluation mode.
    """
    rng = torch.Generator().manual_seed(seed)
    size, channels = model.spec.size_px, model.spec.streams[0].channels
    x = torch.rand(4, channels, 32, 1, size, generator=rng).repeat_interleave(2, 2).expand(-1, -1, -1, size, -1)
    x = (x + torch.rand(4, channels, 64, size, size, generator=rng) - 1).clamp(-1, 1)
    norms = [m for m in model.modules() if isinstance(m, ShiftBatchNorm | nn.BatchNorm3d)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model.features(x)
    for norm in norms:
        norm.momentum = 1e-3
    return model.eval()
