"""TV-L1 optical flow: picks the fastest of the three implementations of the one algorithm for a device."""

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.flow.parameters import MIN_SIDE_PX, TVL1Parameters

PairFunction = Callable[[Tensor, Tensor, TVL1Parameters], Tensor]


def tvl1(first: Tensor, second: Tensor, parameters: TVL1Parameters | None = None) -> Tensor:
    """TV-L1 flow between pairs of gray pictures, on the device where they are.

    The algorithm is that of OpenCV's ``DualTVL1OpticalFlow``; see :mod:`quovadis.flow.tvl1_reference` for its
    sources. On the CPU fused numba kernels do the work, on an NVIDIA GPU Triton kernels, elsewhere plain torch.
    A pair stops by its own change, so its result does not depend on the others.

    Args:
        first: uint8 (N, H, W), gray, H and W at least 16.
        second: like ``first``, on the same device.
        parameters: None for the defaults, which are OpenCV's.

    Returns:
        float32 (N, 2, H, W) in pixels, x to the right and y down: what is at x in ``first`` is at x + u in ``second``.

    Raises:
        InvalidTypeError: not uint8. InvalidInputError: another shape, or too small.

    >>> here = torch.randint(0, 256, (1, 32, 40), dtype=torch.uint8)
    >>> tvl1(here, here).shape
    torch.Size([1, 2, 32, 40])
    """
    parameters = parameters or TVL1Parameters()
    for name, picture in (("first", first), ("second", second)):
        if not isinstance(picture, Tensor) or picture.dtype != torch.uint8:
            got = picture.dtype if isinstance(picture, Tensor) else type(picture).__name__
            raise InvalidTypeError(f"{name} must be a uint8 tensor (N, H, W) of gray pictures; got {got}")
        if picture.ndim != 3 or picture.shape != first.shape:
            raise InvalidInputError(
                f"first and second must both be (N, H, W); got {tuple(first.shape)} and {tuple(second.shape)}"
            )
    require_size(first.shape[1], first.shape[2])
    if len(first) == 0:
        return torch.zeros(0, 2, *first.shape[1:], device=first.device)
    return implementation_for(first.device.type)(first, second, parameters)


def require_size(height: int, width: int) -> None:
    """Raise :class:`InvalidInputError` for pictures that are smaller than the pyramid's smallest level."""
    if min(height, width) < MIN_SIDE_PX:
        raise InvalidInputError(
            f"frames of {height}x{width} are too small for TV-L1, which needs at least {MIN_SIDE_PX}x{MIN_SIDE_PX}: "
            "resize them, for example with resize_short_side"
        )


@cache
def implementation_for(device_type: str) -> PairFunction:
    """The fastest implementation that runs on this kind of device here.

    >>> implementation_for("cpu").__name__
    'tvl1_numba'
    """
    from quovadis.flow.tvl1_reference import tvl1_reference

    if device_type == "cpu":
        if find_spec("numba"):
            from quovadis.flow.tvl1_numba import tvl1_numba

            return tvl1_numba
        warnings.warn(
            "numba is not installed, so TV-L1 runs in plain torch, about ten times slower: pip install numba",
            stacklevel=3,
        )
    if device_type == "cuda" and find_spec("triton"):
        from quovadis.flow.tvl1_triton import tvl1_triton

        return tvl1_triton
    return tvl1_reference
