"""The first convolution of 3D networks, rearranged for the tensor cores of a GPU."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def convolve_pairs(x: Tensor, weight: Tensor) -> Tensor:
    """Compute a 3D convolution of stride 2 with SAME padding and few channels, several times faster on an NVIDIA GPU.

    Tensor cores need many channels: with 3, cuDNN runs at 2 % of their rate. So two neighboring outputs of a row become
    one of twice the channels, and the two rows of pixels and the columns under both become the channels of the input:
    54 instead of 3 for a kernel of 7, filled up with zeros to 64. The sums are those of the plain convolution, with
    zeros added.

    Args:
        x: (B, C, T, H, W).
        weight: (out, C, t, h, w).

    Returns:
        (B, out, T/2, H/2, W/2), rounded up, channels last.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    cells = pair_cells(x, weight.shape[2:])
    return unpair(F.conv3d(cells, pair_weight(weight), None, (2, 1, 1)), x.shape[4])


def pair_channels(channels: int, kernel: Sequence[int]) -> int:
    """Channels of :func:`pair_cells`: a multiple of 64, with which cuDNN is fastest."""
    return -(-2 * (kernel[2] + 2) * channels // 64) * 64


def pair_sizes(size: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding before each axis, and the sizes of the grid of :func:`pair_cells`."""
    before = [max((-(-n // 2) - 1) * 2 + k - n, 0) // 2 for n, k in zip(size, kernel, strict=True)]
    frames, rows, columns = (-(-n // 2) for n in size)
    return before, [2 * frames - 2 + kernel[0], rows + -(-kernel[1] // 2) - 1, -(-columns // 2)]


def pair_cells(x: Tensor, kernel: Sequence[int]) -> Tensor:
    """Rearrange the input of :func:`convolve_pairs`: (B, 64, frames, pairs of rows, pairs of outputs)."""
    before, grid = pair_sizes(x.shape[2:], kernel)
    width = kernel[2] + 2
    needed = [grid[0], 2 * grid[1], 4 * grid[2] - 4 + width]
    ends = [(b, n - b - size) for b, n, size in zip(before, needed, x.shape[2:], strict=True)]
    padded = F.pad(x, [p for pair in reversed(ends) for p in pair])
    windows = padded.unflatten(3, (-1, 2)).unfold(5, width, 4)  # (B, C, T, H/2, 2, W/4, window)
    rows = windows.permute(0, 2, 3, 5, 4, 6, 1).flatten(4)
    rows = F.pad(rows, (0, pair_channels(x.shape[1], kernel) - rows.shape[4]))
    return rows.movedim(-1, 1)


def pair_weight(weight: Tensor) -> Tensor:
    """Rearrange the weight of :func:`convolve_pairs`: (2 out, 64, t, h/2, 1), channels last."""
    channels, kernel = weight.shape[1], weight.shape[2:]
    both = torch.stack([F.pad(weight, (2 * i, 2 - 2 * i, 0, kernel[1] % 2)) for i in (0, 1)])
    both = both.unflatten(4, (-1, 2)).permute(0, 1, 3, 4, 5, 6, 2).flatten(4).flatten(0, 1)
    both = F.pad(both, (0, pair_channels(channels, kernel) - both.shape[3]))
    return both[:, :, :, None].movedim(-1, 1)


def unpair(y: Tensor, width: int) -> Tensor:
    """(B, 2 out, T, H, pairs) to (B, out, T, H, W/2) for an input of this width; a view if W/2 is even."""
    rows = y.movedim(1, -1).unflatten(4, (2, -1)).flatten(3, 4)
    return rows[:, :, :, : -(-width // 2)].movedim(-1, 1)
