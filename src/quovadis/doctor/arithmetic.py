"""Numerical checks of a small network, optical flow and video."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from quovadis.doctor.finding import Finding
from quovadis.flow.parameters import TVL1Parameters
from quovadis.flow.tvl1 import implementation_for
from quovadis.flow.tvl1_reference import tvl1_reference
from quovadis.models.safe_convolution import BF16_TOLERANCE, bf16_error
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.video.read import read_clip
from quovadis.video.writer import LOSSLESS, write_video

GOLDEN_LOGITS = (1.003106038426209, 0.14458786048278463, -1.1725654752574775)
"""Output of :func:`golden_network` for :func:`golden_input` in float64, which do not depend on the machine."""

NETWORK_TOLERANCE = 1e-4
"""Relative tolerance for float32. The error of TensorFloat-32 is ten times larger."""

FLOW_TOLERANCE_PX = 0.05
"""Tolerance for the mean difference of two implementations of TV-L1, which iterate to a threshold."""


def pseudo_random(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return float64 values spread over [-1, 1), computed from integers and thus equal on every machine.

    >>> [round(x, 4) for x in pseudo_random((3,), 1).tolist()]
    [0.4157, -0.2625, -0.9406]
    """
    count = torch.Size(shape).numel()
    numbers = (torch.arange(1, count + 1, dtype=torch.int64) * 2654435761 + seed * 40503) % 2**32
    numbers = (numbers * 1103515245 + 12345) % 2**31
    return (numbers.double() / 2**30 - 1).reshape(shape)


def golden_network() -> VideoModel:
    """Build ``i3d_tiny`` with three classes in float64 and weights computed from a formula."""
    model = build_model("i3d_tiny", num_classes=3).double().eval()
    for number, parameter in enumerate(model.parameters()):
        scale = (3 / parameter[0].numel()) ** 0.5 * 1.5 if parameter.ndim > 1 else 0.1
        parameter.data = pseudo_random(tuple(parameter.shape), number) * scale
    return model


def golden_input() -> torch.Tensor:
    """Return a clip, float64 (1, 3, 17, 65, 66). With odd sizes padding is asymmetric."""
    return pseudo_random((1, 3, 17, 65, 66), 99)


@torch.no_grad()
def networks() -> Iterator[Finding]:
    """Compare a tiny I3D in float64 with stored logits, and in float32 on every device with float64."""
    model, clip = golden_network(), golden_input()
    exact = model(clip)[0]
    golden = torch.tensor(GOLDEN_LOGITS, dtype=torch.float64)
    yield _compare(
        "network, float64", float((exact - golden).abs().max() / golden.abs().max()), 1e-9, "the stored logits"
    )
    devices = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    model = model.float()
    for device in devices:
        logits = model.to(device)(clip.float().to(device))[0].double().cpu()
        error = float((logits - exact).abs().max() / exact.abs().max())
        yield _compare(f"network, float32, {device}", error, NETWORK_TOLERANCE, "float64")


def _compare(name: str, error: float, tolerance: float, reference: str) -> Finding:
    found = f"differs from {reference} by {error:.1e} (tolerance {tolerance:g})"
    if error <= tolerance:
        return Finding("arithmetic", name, "ok", found)
    return Finding("arithmetic", name, "broken", found, "pip install --force-reinstall torch")


def bf16_training() -> Finding:
    """Compare the weight gradient of a bfloat16 convolution on the CPU with float64, in a case where oneDNN failed."""
    error = bf16_error()
    found = f"a weight gradient differs from float64 by {error:.1e} (tolerance {BF16_TOLERANCE:g})"
    if error <= BF16_TOLERANCE:
        return Finding("arithmetic", "bf16 training, cpu", "ok", found)
    return Finding("arithmetic", "bf16 training, cpu", "missing", found, "train with --precision no, or on a GPU")


def flow() -> Finding:
    """Compare compiled TV-L1 with plain torch on an image shifted by a known distance."""
    first, second = _shifted_images()
    parameters = TVL1Parameters()
    compiled = implementation_for("cpu")
    found = compiled(first, second, parameters)
    expected = tvl1_reference(first, second, parameters)
    error = float((found - expected).abs().mean())
    shift = float(found[0, 0, 12:-12, 12:-12].median())
    description = (
        f"{compiled.__name__} differs from plain torch by {error:.3f} px; shift of 2 px measured as {shift:.2f}"
    )
    if error <= FLOW_TOLERANCE_PX and abs(shift - 2) < 0.2:
        return Finding("arithmetic", "optical flow", "ok", description)
    return Finding("arithmetic", "optical flow", "broken", description, "pip install --force-reinstall numba llvmlite")


def _shifted_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return two gray images, uint8 (1, 48, 64); the second is the first shifted right by two pixels."""
    noise = pseudo_random((1, 1, 14, 20), 5).float()
    wide = torch.nn.functional.interpolate(noise, size=(48, 66), mode="bicubic", align_corners=False)[0]
    gray = (wide.clamp(-1, 1) * 127 + 128).to(torch.uint8)
    return gray[:, :, 2:].contiguous(), gray[:, :, :-2].contiguous()


def decoding() -> Finding:
    """Write a lossless video and compare the decoded frames."""
    frames = ((pseudo_random((9, 3, 34, 50), 7) + 1) * 127.5).to(torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "golden.mp4", frames, fps=25, **LOSSLESS)  # type: ignore[arg-type]
        back = read_clip(path).frames
    if back.shape == frames.shape and torch.equal(back, frames):
        return Finding("arithmetic", "decoding", "ok", f"{len(frames)} lossless frames decoded exactly")
    found = f"{len(frames)} lossless frames decoded as {tuple(back.shape)} with different pixels"
    return Finding("arithmetic", "decoding", "broken", found, "pip install --force-reinstall --only-binary av av")
