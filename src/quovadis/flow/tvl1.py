"""TV-L1 optical flow with the fastest implementation for a device."""

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.flow.parameters import MIN_SIDE_PX, TVL1Parameters
from quovadis.video.clip import require_uint8

PairFunction = Callable[[Tensor, Tensor, TVL1Parameters], Tensor]


def tvl1(first: Tensor, second: Tensor, parameters: TVL1Parameters | None = None) -> Tensor:
    """Estimate TV-L1 flow between pairs of grayscale images, on their device.

    The algorithm is that of OpenCV's ``DualTVL1OpticalFlow``, implemented as fused numba kernels for the CPU, as Triton
    kernels for NVIDIA GPUs, and in plain torch for other devices. Each pair has its own stopping rule, so its result
    does not depend on the other pairs. For the frames of a video, use :func:`quovadis.estimate_flow`.

    Args:
        first: uint8 tensor (N, H, W), grayscale, with H, W >= 16.
        second: Like ``first``, on the same device.
        parameters: Parameters of TV-L1; None uses the defaults.

    Returns:
        float32 tensor (N, 2, H, W) in pixels; channel 0 points right, channel 1 down. A pixel at position x in
        ``first`` moves to x + u in ``second``.

    Raises:
        InvalidTypeError: If an input is not a uint8 tensor.
        InvalidInputError: If the shapes are wrong or differ, or the images are too small.

    Example:
        >>> image = torch.randint(0, 256, (1, 32, 40), dtype=torch.uint8)
        >>> tvl1(image, image).shape
        torch.Size([1, 2, 32, 40])

    References:
        See :mod:`quovadis.flow.tvl1_reference`.
    """
    parameters = parameters or TVL1Parameters()
    for name, image in (("first", first), ("second", second)):
        require_uint8(image, f"{name} must be a uint8 tensor (N, H, W) of grayscale images")
        if image.ndim != 3 or image.shape != first.shape:
            raise InvalidInputError(
                f"first and second must both be (N, H, W); got {tuple(first.shape)} and {tuple(second.shape)}"
            )
    require_size(first.shape[1], first.shape[2])
    if len(first) == 0:
        return torch.zeros(0, 2, *first.shape[1:], device=first.device)
    return implementation_for(first.device.type)(first, second, parameters)


def require_size(height: int, width: int) -> None:
    """Raise :class:`InvalidInputError` for frames that are too small for TV-L1."""
    if min(height, width) < MIN_SIDE_PX:
        raise InvalidInputError(
            f"frames of {height}x{width} are too small for TV-L1, which needs at least {MIN_SIDE_PX}x{MIN_SIDE_PX}: "
            "resize them, for example with resize_short_side"
        )


@cache
def implementation_for(device_type: str) -> PairFunction:
    """Return the fastest installed implementation for a type of device.

    Example:
        >>> implementation_for("cpu").__name__
        'tvl1_numba'
    """
    from quovadis.flow.tvl1_reference import tvl1_reference

    if device_type == "cpu":
        if find_spec("numba"):
            from quovadis.flow.tvl1_numba import tvl1_numba

            return tvl1_numba
        warnings.warn(
            "numba is not installed, so TV-L1 runs in plain torch, about ten times slower; run: pip install numba",
            stacklevel=3,
        )
    if device_type == "cuda" and find_spec("triton"):
        from quovadis.flow.tvl1_triton import tvl1_triton

        return tvl1_triton
    return tvl1_reference
