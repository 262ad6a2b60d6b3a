"""Frames to optical flow, one call: gray, pairs, batches, and what to do when the GPU is full."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import overload

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from quovadis.flow.codec import repeat_last
from quovadis.flow.opencv import OPENCV_METHODS, opencv_flow
from quovadis.flow.parameters import FAST, TVL1Parameters
from quovadis.flow.tvl1 import require_size, tvl1
from quovadis.runtime import interrupts
from quovadis.video.clip import Clip, require_frames

METHODS = ("tvl1", "tvl1-fast", *OPENCV_METHODS)

BatchFunction = Callable[[Tensor, Tensor], Tensor]


@overload
def estimate_flow(
    frames: Tensor,
    method: str = ...,
    *,
    parameters: TVL1Parameters | None = ...,
    pairs_per_batch: int = ...,
    device: torch.device | str | None = ...,
) -> Tensor: ...
@overload
def estimate_flow(
    frames: Sequence[Tensor],
    method: str = ...,
    *,
    parameters: TVL1Parameters | None = ...,
    pairs_per_batch: int = ...,
    device: torch.device | str | None = ...,
) -> list[Tensor]: ...
def estimate_flow(
    frames: Tensor | Sequence[Tensor],
    method: str = "tvl1",
    *,
    parameters: TVL1Parameters | None = None,
    pairs_per_batch: int = 64,
    device: torch.device | str | None = None,
) -> Tensor | list[Tensor]:
    """Optical flow from each frame of a clip to the next one.

    The paper's flow stream eats TV-L1 flow (section 4), computed on gray pictures after the short side was resized
    to 256. Resize first; crop and mirror afterwards, with the flow.

    Args:
        frames: uint8 (T, 3, H, W), RGB, at least two frames of at least 16x16 pixels; or a list of such clips, whose
            pairs are computed together, wherever their sizes are equal.
        method: ``tvl1``; ``tvl1-fast``, the same with fewer iterations (:data:`quovadis.flow.parameters.FAST`); or with
            the extra ``opencv``: ``opencv-tvl1``, ``dis``, ``farneback``.
        parameters: of TV-L1; None for OpenCV's defaults, or the fast ones.
        pairs_per_batch: the most pairs at work at a time; bounds the memory. It does not change the result. A batch
            that does not fit the memory of the GPU is halved, as often as needed, with a warning.
        device: where to compute; None where the frames are. OpenCV's methods always use the CPU.

    Returns:
        float32 (T - 1, 2, H, W) in pixels, x to the right and y down, on the CPU: what is at x in frame t is at
        x + flow[t] in frame t + 1. For a list of clips a list of these. Frames that do not move have exactly 0; across
        a scene cut the numbers are finite and mean nothing.

    Raises:
        InvalidTypeError: frames that are no uint8 tensor. InvalidInputError: another shape, or too small.
        TooFewFramesError: fewer than two frames.
        UnknownNameError: no such method. MissingExtraError: OpenCV is not installed.

    >>> frames = torch.randint(0, 256, (3, 3, 32, 40), dtype=torch.uint8)
    >>> flow = estimate_flow(frames)
    >>> flow.shape, flow.dtype
    (torch.Size([2, 2, 32, 40]), torch.float32)
    """
    if method not in METHODS:
        raise UnknownNameError.among("method of optical flow", method, METHODS)
    if pairs_per_batch < 1:
        raise InvalidInputError(f"pairs_per_batch must be at least 1; got {pairs_per_batch}")
    many = isinstance(frames, list | tuple)
    clips: list[Tensor] = list(frames) if many else [frames]  # type: ignore[list-item]
    for number, clip in enumerate(clips):
        _check(clip, f"frames[{number}]" if many else "frames")
    compute: BatchFunction
    if method == "tvl1-fast":
        parameters = parameters or FAST
    if method in ("tvl1", "tvl1-fast"):

        def compute(first: Tensor, second: Tensor) -> Tensor:
            target = device if device is not None else first.device
            return tvl1(first.to(target), second.to(target), parameters).cpu()
    else:

        def compute(first: Tensor, second: Tensor) -> Tensor:
            return opencv_flow(first.cpu(), second.cpu(), method, parameters)

    flows = _in_batches([to_gray(clip) for clip in clips], compute, pairs_per_batch)
    return flows if many else flows[0]


def flow_for_clip(
    clip: Clip,
    *,
    method: str = "tvl1",
    parameters: TVL1Parameters | None = None,
    pairs_per_batch: int = 64,
    device: torch.device | str | None = None,
) -> Clip:
    """The clip with its ``flow`` filled; the last flow is repeated, so that there is one for every frame.

    Args:
        clip: at least two frames, already resized and not yet cropped or mirrored.
        method: see :func:`estimate_flow`, also for the other arguments and for what is raised.
        parameters: of TV-L1.
        pairs_per_batch: the most pairs at work at a time.
        device: where to compute.

    Returns:
        A clip whose ``flow`` is float32 (T, 2, H, W) in pixels, not clipped and not quantized.

    >>> clip = Clip(torch.zeros(4, 3, 32, 40, dtype=torch.uint8), torch.arange(4) / 25)
    >>> flow_for_clip(clip)
    Clip(T=4, H=32, W=40, 0.000 s to 0.120 s, with flow)
    """
    require_frames(len(clip), 2, clip.source, "optical flow")
    flow = estimate_flow(clip.frames, method, parameters=parameters, pairs_per_batch=pairs_per_batch, device=device)
    return replace(clip, flow=repeat_last(flow))


def to_gray(frames: Tensor) -> Tensor:
    """RGB to gray, to the bit as OpenCV's ``COLOR_RGB2GRAY``: BT.601 weights in 15 bits, rounded.

    Args:
        frames: uint8 (T, 3, H, W).

    Returns:
        uint8 (T, H, W).

    >>> to_gray(torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)).item()
    76
    """
    red, green, blue = (frames[:, channel].to(torch.int32) for channel in range(3))
    return ((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15).to(torch.uint8)


def _check(frames: Tensor, name: str) -> None:
    if not isinstance(frames, Tensor) or frames.dtype != torch.uint8:
        got = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
        hint = ""
        if isinstance(frames, Tensor) and frames.is_floating_point():
            hint = ": give the bytes in [0, 255], not scaled floats (which could also hide NaN)"
        raise InvalidTypeError(f"{name} must be a uint8 tensor (T, 3, H, W); got {got}{hint}")
    if frames.ndim != 4 or frames.shape[1] != 3:
        hint = ""
        if frames.ndim == 4 and frames.shape[-1] == 3:
            hint = "; it looks like (T, H, W, 3): use frames.permute(0, 3, 1, 2)"
        elif frames.ndim == 3 or (frames.ndim == 4 and frames.shape[1] == 1):
            hint = "; for gray pictures use quovadis.flow.tvl1.tvl1, or repeat the channel three times"
        raise InvalidInputError(f"{name} must have shape (T, 3, H, W); got {tuple(frames.shape)}{hint}")
    require_frames(len(frames), 2, "" if name == "frames" else name, "optical flow")
    require_size(frames.shape[2], frames.shape[3])


def _in_batches(grays: list[Tensor], compute: BatchFunction, pairs_per_batch: int) -> list[Tensor]:
    """Flow of every clip; pairs of clips of one size share batches."""
    flows = [torch.empty(len(gray) - 1, 2, *gray.shape[1:]) for gray in grays]
    sizes = {gray.shape[1:]: None for gray in grays}
    for size in sizes:
        pairs = [(c, t) for c, gray in enumerate(grays) if gray.shape[1:] == size for t in range(len(gray) - 1)]
        for some, flow in _halving(grays, pairs, compute, pairs_per_batch):
            for (c, t), result in zip(some, flow, strict=True):
                flows[c][t] = result
    return flows


def _halving(
    grays: list[Tensor], pairs: list[tuple[int, int]], compute: BatchFunction, pairs_per_batch: int
) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    """Batches of pairs with their flow; when the memory of the GPU is full, half as many pairs from there on."""
    start, size = 0, min(pairs_per_batch, len(pairs))
    told = False
    while start < len(pairs):
        interrupts.check()
        some = pairs[start : start + size]
        try:
            first = torch.stack([grays[c][t] for c, t in some])
            second = torch.stack([grays[c][t + 1] for c, t in some])
            flow = compute(first, second)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            if not told:
                warnings.warn(
                    f"the memory of the GPU is too small for {size} pairs of frames at a time; going on with fewer "
                    f"(pairs_per_batch={size // 2} or less avoids this)",
                    stacklevel=4,
                )
            told, size = True, size // 2
            continue
        yield some, flow
        start += size
