"""Flow by OpenCV and exact motion, from tests/golden/flow and from the reference data next to the checkout."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

GOLDEN = Path(__file__).parent.parent / "golden" / "flow"

REAL_PAIRS = ["bikes_0__bikes_1", "cricket_0__cricket_1", "cricket_1__cricket_2"]
MOTIONS = ["t_p1.50_p2.25", "t_m3.30_p1.70", "rot1.5_zoom1.02"]
ALL_MOTIONS = [*MOTIONS, "t_p0.50_p0.00", "t_p0.25_m0.75", "t_p6.00_m4.00"]


def image(folder: Path, name: str) -> Tensor:
    """uint8 (1, H, W)."""
    [path] = [*folder.glob(f"{name}.png"), *folder.glob(f"frames/{name}.png")]
    return torch.from_numpy(np.array(Image.open(path)))[None]


def opencv_flow(folder: Path, pair: str) -> NDArray[np.float32]:
    """float32 (2, H, W)."""
    return np.load(folder / "opencv_dualtvl1.npz")[pair].transpose(2, 0, 1)


def true_flow(folder: Path, motion: str) -> NDArray[np.float32]:
    """float32 (2, H, W)."""
    return np.load(folder / "analytic_truth.npz")[motion].transpose(2, 0, 1)


def end_point_difference(a: Tensor | NDArray[np.float32], b: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    """Endpoint error (H, W), in pixels, of two flows (2, H, W)."""
    return np.linalg.norm(np.asarray(a) - np.asarray(b), axis=0)


def waves(num_frames: int, height: int, width: int, motion: tuple[float, float], seed: int = 0) -> Tensor:
    """uint8 (T, 3, H, W): a sum of sinusoids that moves by exactly ``motion`` pixels (x, y) per frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    frames = np.zeros((num_frames, 3, height, width))
    for _ in range(30):
        length, angle, phase = rng.uniform(8, 50), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
        color = rng.uniform(0.5, 1.5, 3)[:, None, None]
        for t in range(num_frames):
            along = (x - t * motion[0]) * np.cos(angle) + (y - t * motion[1]) * np.sin(angle)
            frames[t] += color * np.sin(2 * np.pi * along / length + phase)
    return torch.from_numpy(np.clip(127.5 + 14 * frames, 0, 255).round().astype(np.uint8))
