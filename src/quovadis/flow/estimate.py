"""Estimate optical flow between the frames of clips, in batches of frame pairs."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import overload

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.flow.codec import repeat_last
from quovadis.flow.opencv import opencv_flow
from quovadis.flow.parameters import FAST, METHODS, TVL1Parameters
from quovadis.flow.tvl1 import require_size, tvl1
from quovadis.runtime import interrupts
from quovadis.video.clip import Clip, require_frames, require_uint8

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
    """Estimate optical flow between consecutive frames.

    The paper computes TV-L1 flow on grayscale frames after resizing the short side to 256 (section 4). Resize before
    calling this function; apply crops and flips to frames and flow afterwards.

    Args:
        frames: uint8 tensor (T, 3, H, W), RGB, with T >= 2 and H, W >= 16; or a list of such tensors. Frame pairs of
            equal size are processed in one batch.
        method: ``tvl1``; ``tvl1-fast``, which is TV-L1 with fewer iterations (:data:`quovadis.flow.parameters.FAST`);
            or, with the extra ``opencv``: ``opencv-tvl1``, ``dis`` or ``farneback``.
        parameters: Parameters of TV-L1; None uses the defaults of the method.
        pairs_per_batch: Maximum number of frame pairs processed at once. Limits memory use; does not affect the result.
            If a batch exceeds the memory of the GPU, the number is halved with a warning.
        device: Device to compute on; None uses the device of the frames. OpenCV methods always use the CPU.

    Returns:
        float32 tensor (T - 1, 2, H, W) in pixels, on the CPU; channel 0 points right, channel 1 down. A pixel at
        position x in frame t moves to x + flow[t] in frame t + 1. Identical frames give exactly zero. Flow across a
        scene cut is finite but meaningless. For a list of tensors, a list of results.

    Raises:
        InvalidTypeError: If ``frames`` is not a uint8 tensor.
        InvalidInputError: If the shape of ``frames`` is wrong or the frames are too small, or ``pairs_per_batch`` is
            below 1.
        TooFewFramesError: If there are fewer than two frames.
        UnknownNameError: If ``method`` is unknown.
        MissingExtraError: If the method needs OpenCV and it is not installed.

    Example:
        >>> frames = torch.randint(0, 256, (3, 3, 32, 40), dtype=torch.uint8)
        >>> flow = estimate_flow(frames)
        >>> flow.shape, flow.dtype
        (torch.Size([2, 2, 32, 40]), torch.float32)

    References:
        C. Zach, T. Pock, H. Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007.
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
            return tvl1(first.to(target), second.to(target), parameters)
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
    known: Tensor | None = None,
) -> Clip:
    """Return a copy of a clip with its optical flow; the last flow is repeated, so that every frame has one.

    Args:
        clip: Clip of at least two frames, already resized and not yet cropped or flipped.
        method: Method of :func:`estimate_flow`.
        parameters: Parameters of TV-L1; None uses the defaults of the method.
        pairs_per_batch: Maximum number of frame pairs processed at once.
        device: Device to compute on; None uses the device of the frames.
        known: Flow of the first pairs of frames, (K, 2, H, W) with K < T, which is not estimated again.

    Returns:
        Clip whose ``flow`` is float32 (T, 2, H, W) in pixels, neither clipped nor quantized.

    Raises:
        TooFewFramesError: If the clip has fewer than two frames. See :func:`estimate_flow` for other errors.

    Example:
        >>> clip = Clip(torch.zeros(4, 3, 32, 40, dtype=torch.uint8), torch.arange(4) / 25)
        >>> flow_for_clip(clip)
        Clip(T=4, H=32, W=40, 0.000 s to 0.120 s, with flow)
    """
    require_frames(len(clip), 2, clip.source, "optical flow")
    num_known = 0 if known is None else len(known)
    if num_known < len(clip) - 1:
        frames = clip.frames[num_known:]
        flow = estimate_flow(frames, method, parameters=parameters, pairs_per_batch=pairs_per_batch, device=device)
        known = flow if known is None else torch.cat([known, flow])
    assert known is not None
    return replace(clip, flow=repeat_last(known))


def to_gray(frames: Tensor) -> Tensor:
    """Convert RGB to grayscale, bit-identical to OpenCV's ``COLOR_RGB2GRAY``: BT.601 weights in 15 bits, rounded.

    Args:
        frames: uint8 tensor (T, 3, H, W).

    Returns:
        uint8 tensor (T, H, W).

    Example:
        >>> to_gray(torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)).item()
        76
    """
    red, green, blue = (frames[:, channel].to(torch.int32) for channel in range(3))
    return ((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15).to(torch.uint8)


def _check(frames: Tensor, name: str) -> None:
    is_float = isinstance(frames, Tensor) and frames.is_floating_point()
    hint = ": pass the bytes in [0, 255] instead of scaled floats, which could contain NaN" if is_float else ""
    require_uint8(frames, f"{name} must be a uint8 tensor (T, 3, H, W)", hint)
    if frames.ndim != 4 or frames.shape[1] != 3:
        hint = ""
        if frames.ndim == 4 and frames.shape[-1] == 3:
            hint = "; it looks like (T, H, W, 3): use frames.permute(0, 3, 1, 2)"
        elif frames.ndim == 3 or (frames.ndim == 4 and frames.shape[1] == 1):
            hint = "; for grayscale frames use quovadis.flow.tvl1.tvl1, or repeat the channel three times"
        raise InvalidInputError(f"{name} must have shape (T, 3, H, W); got {tuple(frames.shape)}{hint}")
    require_frames(len(frames), 2, "" if name == "frames" else name, "optical flow")
    require_size(frames.shape[2], frames.shape[3])


def _in_batches(grays: list[Tensor], compute: BatchFunction, pairs_per_batch: int) -> list[Tensor]:
    """Compute the flow of every clip; clips of equal size share batches."""
    flows = [torch.empty(len(gray) - 1, 2, *gray.shape[1:]) for gray in grays]
    sizes = {gray.shape[1:]: None for gray in grays}
    for size in sizes:
        pairs = [(c, t) for c, gray in enumerate(grays) if gray.shape[1:] == size for t in range(len(gray) - 1)]
        for batch, flow in _batches(grays, pairs, compute, pairs_per_batch):
            done = 0
            for c, group in groupby(batch, key=itemgetter(0)):
                (_, first), *rest = group  # consecutive pairs of a clip are copied from the GPU at once
                flows[c][first : first + 1 + len(rest)].copy_(flow[done : done + 1 + len(rest)])
                done += 1 + len(rest)
    return flows


def _batches(
    grays: list[Tensor], pairs: list[tuple[int, int]], compute: BatchFunction, pairs_per_batch: int
) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    """Yield batches of pairs with their flow; halve the batch size whenever the memory of the GPU is exceeded."""
    start, size = 0, min(pairs_per_batch, len(pairs))
    warned = False
    while start < len(pairs):
        interrupts.check()
        batch = pairs[start : start + size]
        try:
            first = torch.stack([grays[c][t] for c, t in batch])
            second = torch.stack([grays[c][t + 1] for c, t in batch])
            flow = compute(first, second)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            if not warned:
                warnings.warn(
                    f"{size} frame pairs exceed the memory of the GPU; continuing with smaller batches (use "
                    f"pairs_per_batch={size // 2} or less to avoid this)",
                    stacklevel=4,
                )
            warned, size = True, size // 2
            continue
        yield batch, flow
        start += size
