"""CPU layers of :func:`quovadis.models.optimization.optimize`: the same results as the plain layers in less time.

These layers support inference only. They expect and return tensors in channels-last memory format. See
``benchmarks/results`` for timings.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.inception import InceptionBlock, InceptionV1, MaxPoolSame
from quovadis.models.layers import ConvUnit, same_padding

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, 2.0)
"""Evaluation points of the polynomials in :class:`FastTimeConv`, in addition to infinity.

A layer uses the first points of this list. Point 1 must be among them because it carries the bias. The others were
chosen for small rounding errors.
"""
_BIAS_POINT = _POINTS.index(1.0)
_BLOCK_FRAMES = 4
"""Output frames that one Winograd transform computes together."""
_CHUNK_VALUES = 2**22
"""Number of intermediate values per chunk: 16 MiB in float32, which fits into the cache of most processors."""


def rows_of(x: Tensor) -> Tensor:
    """View (B, C, ...) as a matrix (positions, C). Copies unless ``x`` is channels-last."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def channels_last_like(x: Tensor, num_channels: int) -> tuple[Tensor, Tensor]:
    """Allocate a channels-last tensor with the batch and size of ``x``; return it and its (positions, C) view."""
    rows = x.new_empty(x.numel() // x.shape[1], num_channels)
    return rows.view(len(x), *x.shape[2:], num_channels).movedim(-1, 1), rows


def max_pool_fast(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Max pooling with SAME padding, computed one axis at a time.

    Same result as :func:`quovadis.models.layers.max_pool_same`. It is faster on a CPU because PyTorch also stores the
    position of each maximum, which only the backward pass needs.
    """
    for axis in range(x.ndim - 1, 1, -1):  # width first: this leaves the fewest values for the other axes
        k, s = kernel[axis - 2], stride[axis - 2]
        if k > 1 or s > 1:
            x = _max_along(x, axis, k, s)
    return x


def _max_along(x: Tensor, axis: int, kernel: int, stride: int) -> Tensor:
    """Max pooling with SAME padding along one axis."""
    size = x.shape[axis]
    before, _ = same_padding(size, kernel, stride)
    rows = x.movedim(1, -1).movedim(axis - 1, 0)
    result = rows[::stride].clone()
    for offset in range(-before, kernel - before):
        if offset == 0:
            continue
        first = -(offset // stride) if offset < 0 else 0
        last = min(len(result), (size - 1 - offset) // stride + 1)
        if first < last:
            neighbors = rows[first * stride + offset :: stride][: last - first]
            torch.maximum(result[first:last], neighbors, out=result[first:last])
    return result.movedim(0, axis - 1).movedim(-1, 1)


class FastPool(nn.Module):
    """Replacement for :class:`~quovadis.models.inception.MaxPoolSame`; see :func:`max_pool_fast`."""

    def __init__(self, pool: MaxPoolSame):
        super().__init__()
        self.kernel, self.stride = pool.kernel, pool.stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to (B, C, ...), each axis divided by its stride and rounded up."""
        return max_pool_fast(x, self.kernel, self.stride)


class FastPointwise(nn.Module):
    """A convolution with kernel size 1 and stride 1, followed by ReLU, computed as a matrix product.

    Args:
        conv: The convolution. It must have a bias.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d):
        super().__init__()
        assert conv.bias is not None
        self.weight = nn.Parameter(conv.weight.detach().flatten(1).t().contiguous())
        self.bias = nn.Parameter(conv.bias.detach())

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return len(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) to (B, out, ...)."""
        out, rows = channels_last_like(x, self.out_channels)
        self.write_to(rows, x)
        return out

    def write_to(self, rows: Tensor, x: Tensor) -> None:
        """Write the output for ``x`` to ``rows`` (positions, out), which may be columns of a wider matrix."""
        torch.addmm(self.bias, rows_of(x), self.weight, out=rows).relu_()


class FastTimeConv(nn.Module):
    """A 3D convolution with SAME padding followed by ReLU, with Winograd's algorithm along time.

    The temporal convolution computes four output frames from the products of transformed input frames and transformed
    weights. A kernel of size 3 then needs 6 spatial convolutions per four frames instead of 12. With stride 2, two
    neighboring frames are treated as one frame with twice the channels, so a kernel of size 7 has 4 taps and needs 7
    spatial convolutions instead of 14. The spatial axes are not transformed because this would cost more than it saves.

    Blocks of four frames are processed in chunks that fit into the cache. In float32, the rounding error of one layer
    is three to seven times that of the direct sum, or about 1e-6 of the standard deviation of the output.

    Args:
        conv: The convolution. It must have a bias and at most 4 taps along time after the division by the stride.

    References:
        Winograd, "Arithmetic Complexity of Computations", 1980.
        Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308.
    """

    input_transform: Tensor
    output_transform: Tensor

    def __init__(self, conv: nn.Conv3d):
        super().__init__()
        assert conv.bias is not None
        self.kernel, self.stride = conv.kernel_size, conv.stride
        time_stride = self.stride[0]
        num_taps = ceil(self.kernel[0] / time_stride)
        output_values, tap_values, input_transform = _winograd_matrices(_BLOCK_FRAMES, num_taps)
        taps = F.pad(conv.weight.detach().double(), (0, 0, 0, 0, 0, num_taps * time_stride - self.kernel[0]))
        taps = taps.unflatten(2, (num_taps, time_stride))
        weights = torch.einsum("pk,oikshw->posihw", tap_values, taps).flatten(2, 3)
        like, layout = conv.weight, torch.channels_last
        self.weights = nn.ParameterList(w.to(like.device, like.dtype, memory_format=layout) for w in weights)
        self.bias = nn.Parameter(conv.bias.detach())
        self.register_buffer("input_transform", input_transform.to(like.device, like.dtype))
        self.register_buffer("output_transform", output_values.T.contiguous().to(like.device, like.dtype))

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return len(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, out, T, H, W), each axis divided by its stride and rounded up."""
        return self.forward_then(x, lambda chunk: chunk)

    def forward_then(self, x: Tensor, frame_layers: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply the convolution and then ``frame_layers``, one chunk of frames at a time.

        Args:
            x: Float (B, in, T, H, W).
            frame_layers: Maps (1, out, t, H, W) to (1, C, t, H', W'). It must treat each frame independently.
        """
        num_frames, *size = (ceil(n / s) for n, s in zip(x.shape[2:], self.stride, strict=True))
        blocks = [(clip, start) for clip in range(len(x)) for start in range(0, num_frames, _BLOCK_FRAMES)]
        frame_values = size[0] * size[1] * self.out_channels
        chunk_size = min(max(_CHUNK_VALUES // (len(self.weights) * frame_values), 1), len(blocks))
        pad_clip = _ClipPadding(x, self.kernel, self.stride)

        # The buffers of one chunk. Each iteration overwrites them after the previous result was copied to `out`.
        padded, padded_clip = pad_clip(x[0]), 0
        inputs = x.new_empty(len(self.weights), chunk_size, *padded.shape[1:])
        products = x.new_empty(len(self.weights), chunk_size, frame_values)
        outputs = x.new_empty(chunk_size, _BLOCK_FRAMES, frame_values)
        out: Tensor | None = None
        for first in range(0, len(blocks), chunk_size):
            chunk = blocks[first : first + chunk_size]
            for i, (clip, start) in enumerate(chunk):
                if clip != padded_clip:
                    padded, padded_clip = pad_clip(x[clip]), clip
                self._transform_input(padded, start - pad_clip.implicit_frames, inputs[:, i].flatten(1))
            for point, weight in enumerate(self.weights):
                y = inputs[point, : len(chunk)].movedim(-1, 1)
                # The value at point 1 is added to each output frame exactly once.
                y = F.conv2d(y, weight, self.bias if point == _BIAS_POINT else None, self.stride[1:], pad_clip.implicit)
                products[point, : len(chunk)] = y.movedim(1, -1).flatten(1)
            for i in range(len(chunk)):
                torch.mm(self.output_transform, products[:, i], out=outputs[i])
            frames = outputs[: len(chunk)].relu_().view(-1, *size, self.out_channels).movedim(-1, 0)
            y = frame_layers(frames[None])
            if out is None:
                out = y.new_empty(len(x), num_frames, *y.shape[3:], y.shape[1]).movedim(-1, 1)
            for (clip, start), block in zip(chunk, y[0].split(_BLOCK_FRAMES, 1), strict=True):
                target = out[clip, :, start : start + _BLOCK_FRAMES]
                target.copy_(block[:, : target.shape[1]])
        assert out is not None
        return out

    def _transform_input(self, frames: Tensor, start: int, out: Tensor) -> None:
        """Transform the input frames of the block that begins at ``start``. Frames outside the clip are zero."""
        stop = min(start + len(self.input_transform), len(frames))
        inside = slice(max(start, 0), stop)
        torch.mm(self.input_transform[:, inside.start - start : stop - start], frames[inside].flatten(1), out=out)


class _ClipPadding:
    """SAME padding of clips, explicit only where the convolution cannot pad.

    A call maps a clip (C, T, H, W) to frames (T', H', W', C'). With a temporal stride, ``stride`` consecutive frames
    become one frame with ``stride`` times the channels.
    """

    def __init__(self, x: Tensor, kernel: Sequence[int], stride: Sequence[int]):
        self.pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
        (before, _), *spatial = self.pads
        self.time_stride = stride[0]
        self.explicit = self.time_stride > 1 or any(start != end for start, end in spatial)
        self.implicit = [0, 0] if self.explicit else [start for start, _ in spatial]
        """Spatial padding that is left to the convolution."""
        self.implicit_frames = 0 if self.explicit else before
        """Zero frames before the clip that are not part of the result."""

    def __call__(self, clip: Tensor) -> Tensor:
        frames = clip.movedim(0, -1)
        if not self.explicit:
            return frames
        (before, _), (top, bottom), (left, right) = self.pads
        step, (num_frames, height, width, channels) = self.time_stride, frames.shape
        size = top + height + bottom, left + width + right
        padded = clip.new_zeros(ceil((before + num_frames) / step), *size, step, channels)
        for phase in range(step):
            first = max(ceil((before - phase) / step), 0)
            of_phase = frames[first * step + phase - before :: step]
            padded[first : first + len(of_phase), top : top + height, left : left + width, phase] = of_phase
        return padded.flatten(3)


def _winograd_matrices(num_outputs: int, num_taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of the Toom-Cook algorithm for a correlation with ``num_outputs`` results.

    Returns:
        Float64 matrices ``outputs`` (points, outputs), ``taps`` (points, taps) and ``inputs`` (points, points).
        ``outputs.T @ ((taps @ g) * (inputs @ d))`` is the correlation of the inputs ``d`` with the taps ``g``.

    >>> outputs, taps, inputs = _winograd_matrices(4, 3)
    >>> d, g = torch.arange(6).double() ** 2, torch.tensor([1.0, -2.0, 1.0]).double()
    >>> (outputs.T @ ((taps @ g) * (inputs @ d))).round(decimals=9).tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    points = torch.tensor(_POINTS[: num_outputs + num_taps - 2], dtype=torch.float64)[:, None]

    def powers(count: int) -> Tensor:
        """Powers 0 to count - 1 of each point; the row of infinity selects the highest power."""
        return torch.cat([points ** torch.arange(count), torch.eye(count, dtype=torch.float64)[-1:]])

    return powers(num_outputs), powers(num_taps), torch.linalg.inv(powers(num_outputs + num_taps - 1)).T


class FastInceptionBlock(nn.Module):
    """Replacement for :class:`~quovadis.models.inception.InceptionBlock` that does not concatenate its branches.

    Args:
        block: A block whose layers were already replaced.
    """

    def __init__(self, block: InceptionBlock):
        super().__init__()
        self.branches = nn.ModuleList(block.children())
        self.widths = [_out_channels(list(branch.children())[-1]) for branch in block.children()]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) to (B, b0 + b1 + b2 + b3, ...)."""
        out, rows = channels_last_like(x, sum(self.widths))
        for branch, columns in zip(self.branches, rows.split(self.widths, 1), strict=True):
            *layers, last = branch.children()
            y = x
            for layer in layers:
                y = layer(y)
            if isinstance(last, FastPointwise):
                last.write_to(columns, y)
            else:
                columns.copy_(rows_of(last(y)))
        return out


def _out_channels(layer: nn.Module) -> int:
    assert isinstance(layer, FastPointwise | FastTimeConv | ConvUnit)
    return layer.conv.out_channels if isinstance(layer, ConvUnit) else layer.out_channels


class FastTrunk(nn.Module):
    """Replacement for the 3D :class:`~quovadis.models.inception.InceptionV1` of I3D.

    It runs the first five layers on a few frames at a time, which saves time and memory.

    Args:
        trunk: A trunk whose layers were already replaced.
    """

    Conv3d_1a_7x7: FastTimeConv
    MaxPool3d_2a_3x3: FastPool
    Conv3d_2b_1x1: FastPointwise
    Conv3d_2c_3x3: FastTimeConv
    MaxPool3d_3a_3x3: FastPool

    def __init__(self, trunk: InceptionV1):
        super().__init__()
        self.endpoint_names = trunk.endpoint_names
        for name in self.endpoint_names:
            self.add_module(name, trunk.get_submodule(name))

    def stages(self, x: Tensor, names: Set[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Run the layers and yield ``(endpoint name, output)``, without the first layers if ``names`` has none."""
        last_of_first = self.endpoint_names.index("MaxPool3d_3a_3x3")
        rest = self.endpoint_names
        if names is not None and names.isdisjoint(self.endpoint_names[:last_of_first]):
            x = self._first_layers(x)
            yield self.endpoint_names[last_of_first], x
            rest = rest[last_of_first + 1 :]
        for name in rest:
            x = self.get_submodule(name)(x)
            yield name, x

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, 1024, T/8, H/32, W/32), rounded up."""
        for _, output in self.stages(x, frozenset()):
            x = output
        return x

    def _first_layers(self, x: Tensor) -> Tensor:
        x = self.Conv3d_1a_7x7.forward_then(x, lambda frames: self.Conv3d_2b_1x1(self.MaxPool3d_2a_3x3(frames)))
        return self.Conv3d_2c_3x3.forward_then(x, self.MaxPool3d_3a_3x3)
