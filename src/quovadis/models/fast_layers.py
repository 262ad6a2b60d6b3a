"""CPU layers of :func:`quovadis.models.optimization.optimize`: the same results as the plain layers in less time.

These layers support inference only. They expect and return tensors in channels-last memory format. See
``benchmarks/results`` for timings.
"""

import threading
from collections.abc import Callable, Iterator, Sequence, Set
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.inception import InceptionBlock, InceptionV1, MaxPoolSame
from quovadis.models.layers import ConvUnit, same_padding
from quovadis.runtime.parallel import run_in_halves, run_in_one_thread

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
_CHUNK_ROWS = 1024
"""Number of positions per chunk in Inception blocks: up to 2 MiB, which the branches read from a cache of the core."""
_SMALL_CLIP = 7e11
"""Product of the positions and weights of a clip below which one thread is faster than two that divide its frames."""


def rows_of(x: Tensor) -> Tensor:
    """View (B, C, ...) as a matrix (positions, C). Copies unless ``x`` is channels-last."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def channels_last_like(x: Tensor, num_channels: int) -> tuple[Tensor, Tensor]:
    """Allocate a channels-last tensor with the batch and size of ``x``; return it and its (positions, C) view."""
    rows = x.new_empty(x.numel() // x.shape[1], num_channels)
    return rows.view(len(x), *x.shape[2:], num_channels).movedim(-1, 1), rows


def max_pool_fast(x: Tensor, kernel: Sequence[int], stride: Sequence[int], part: range | None = None) -> Tensor:
    """Max pooling with SAME padding, computed one axis at a time.

    Same result as :func:`quovadis.models.layers.max_pool_same`. It is faster on a CPU because PyTorch also stores the
    position of each maximum, which only the backward pass needs.

    Args:
        x: (B, C, ...).
        kernel: Kernel size of each axis.
        stride: Stride of each axis.
        part: Positions of the output along its first axis, time in 3D, that are computed. Defaults to all.
    """
    size = [ceil(n / s) for n, s in zip(x.shape[2:], stride, strict=True)]
    pads = [same_padding(n, k, s)[0] for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    part = range(size[0]) if part is None else part
    first = part.start * stride[0] - pads[0]
    last = (part.stop - 1) * stride[0] - pads[0] + kernel[0]
    y = x[:, :, max(first, 0) : last].movedim(1, -1)
    size[0], pads[0] = len(part), max(-first, 0)
    for axis in reversed(range(len(size))):  # width first: this leaves the fewest values for the other axes
        if kernel[axis] > 1 or stride[axis] > 1:
            y = _max_along(y, axis + 1, kernel[axis], stride[axis], pads[axis], size[axis])
    return y.movedim(-1, 1)


def _max_along(x: Tensor, axis: int, kernel: int, stride: int, before: int, num_outputs: int) -> Tensor:
    """Max pooling along one axis, with ``before`` padded positions at its start."""
    result = x.new_empty(*x.shape[:axis], num_outputs, *x.shape[axis + 1 :])
    inputs, outputs = x.movedim(axis, 0), result.movedim(axis, 0)
    centers = inputs[::stride][:num_outputs]
    written = False
    for offset in range(-before, kernel - before):
        if offset == 0:
            continue
        start = -(offset // stride) if offset < 0 else 0
        stop = min(num_outputs, (len(inputs) - 1 - offset) // stride + 1)
        if start >= stop:
            continue
        neighbors = inputs[start * stride + offset :: stride][: stop - start]
        if not written:
            torch.maximum(centers[start:stop], neighbors, out=outputs[start:stop])
            outputs[:start], outputs[stop:] = centers[:start], centers[stop:]
            written = True
        else:
            torch.maximum(outputs[start:stop], neighbors, out=outputs[start:stop])
    if not written:
        outputs.copy_(centers)
    return result


class FastPool(nn.Module):
    """Replacement for :class:`~quovadis.models.inception.MaxPoolSame`; see :func:`max_pool_fast`."""

    def __init__(self, pool: MaxPoolSame):
        super().__init__()
        self.kernel, self.stride = pool.kernel, pool.stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to (B, C, ...), each axis divided by its stride and rounded up."""
        size = [ceil(n / s) for n, s in zip(x.shape[2:], self.stride, strict=True)]
        out = x.new_empty(len(x), *size, x.shape[1]).movedim(-1, 1)

        def pool(start: int, stop: int) -> None:
            out[:, :, start:stop] = max_pool_fast(x, self.kernel, self.stride, range(start, stop))

        run_in_halves(pool, size[0])
        return out


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
        halves = list(zip(rows_of(x).tensor_split(2), rows.tensor_split(2), strict=True))

        def multiply(start: int, stop: int) -> None:
            for inputs, outputs in halves[start:stop]:
                self.multiply(inputs, outputs)

        run_in_halves(multiply, len(halves))
        return out

    def multiply(self, inputs: Tensor, out: Tensor) -> None:
        """(positions, in) to ``out`` (positions, out), which may be columns of a wider matrix."""
        torch.addmm(self.bias, inputs, self.weight, out=out).relu_()


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
        return self.forward_then(x, lambda frames: frames)

    def forward_then(self, x: Tensor, frame_layers: Callable[[Tensor], Tensor], out: Tensor | None = None) -> Tensor:
        """Apply the convolution, ``frame_layers`` and ReLU, one chunk of frames at a time.

        Args:
            x: Float (B, in, T, H, W).
            frame_layers: Maps the result of the convolution, before ReLU, (1, out, t, H, W) to (1, C, t, H', W'). It
                must treat each frame independently.
            out: Where the result (B, C, T, H', W') is written. Allocated by default.
        """
        num_frames, *size = (ceil(n / s) for n, s in zip(x.shape[2:], self.stride, strict=True))
        blocks = [(clip, start) for clip in range(len(x)) for start in range(0, num_frames, _BLOCK_FRAMES)]
        frame_values = size[0] * size[1] * self.out_channels
        chunk_size = min(max(_CHUNK_VALUES // (len(self.weights) * frame_values), 1), ceil(len(blocks) / 2))
        chunks = [blocks[first : first + chunk_size] for first in range(0, len(blocks), chunk_size)]
        padding = _ClipPadding(x, self.kernel, self.stride, len(self.input_transform))
        lock = threading.Lock()

        def compute(first: int, last: int) -> None:
            nonlocal out
            # Each chunk overwrites the buffers after the result of the previous one was written to `out`.
            padded = padding.new_buffer(x)
            inputs = x.new_empty(len(self.weights), chunk_size, *padding.frame_shape)
            products = x.new_empty(len(self.weights), chunk_size, frame_values)
            outputs = x.new_empty(chunk_size, _BLOCK_FRAMES, frame_values)
            for chunk in chunks[first:last]:
                for i, (clip, start) in enumerate(chunk):
                    frames, num_zero = padding.block(x[clip], start, padded)
                    transform = self.input_transform[:, num_zero : num_zero + len(frames)]
                    torch.mm(transform, frames.flatten(1), out=inputs[:, i].flatten(1))
                self._convolve(inputs[:, : len(chunk)], products, padding.implicit)
                for i in range(len(chunk)):
                    torch.mm(self.output_transform, products[:, i], out=outputs[i])
                y = frame_layers(outputs[: len(chunk)].view(-1, *size, self.out_channels).movedim(-1, 0)[None])
                with lock:
                    if out is None:
                        out = y.new_empty(len(x), num_frames, *y.shape[3:], y.shape[1]).movedim(-1, 1)
                for (clip, start), block in zip(chunk, y[0].split(_BLOCK_FRAMES, 1), strict=True):
                    target = out[clip, :, start : start + _BLOCK_FRAMES]
                    torch.clamp_min(block[:, : target.shape[1]], 0, out=target)

        run_in_halves(compute, len(chunks))
        assert out is not None
        return out

    def _convolve(self, inputs: Tensor, products: Tensor, padding: list[int]) -> None:
        """Convolve the transformed frames (points, blocks, H, W, in) with the weights of their points."""
        for point, weight in enumerate(self.weights):
            # The value at point 1 is added to each output frame exactly once.
            bias = self.bias if point == _BIAS_POINT else None
            y = F.conv2d(inputs[point].movedim(-1, 1), weight, bias, self.stride[1:], padding)
            products[point, : len(y)] = y.movedim(1, -1).flatten(1)


class _ClipPadding:
    """SAME padding of clips, explicit only where the convolution cannot pad.

    With a temporal stride, ``stride`` consecutive frames become one frame with ``stride`` times the channels.
    """

    def __init__(self, x: Tensor, kernel: Sequence[int], stride: Sequence[int], num_inputs: int):
        self.pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
        (self.before, _), *spatial = self.pads
        self.time_stride, self.num_inputs = stride[0], num_inputs
        self.explicit = self.time_stride > 1 or any(start != end for start, end in spatial)
        self.implicit = [0, 0] if self.explicit else [start for start, _ in spatial]
        """Spatial padding that is left to the convolution."""
        pads = spatial if self.explicit else [(0, 0), (0, 0)]
        height, width = (n + sum(pad) for n, pad in zip(x.shape[3:], pads, strict=True))
        self.frame_shape = height, width, x.shape[1] * self.time_stride

    def new_buffer(self, x: Tensor) -> Tensor:
        """Allocate the memory for the padded frames of one block."""
        height, width, _ = self.frame_shape
        num_frames = self.num_inputs if self.explicit else 0
        return x.new_zeros(num_frames, height, width, self.time_stride, x.shape[1])

    def block(self, clip: Tensor, start: int, buffer: Tensor) -> tuple[Tensor, int]:
        """Return the input frames of the block of output frames from ``start``.

        Args:
            clip: (C, T, H, W).
            start: First output frame.
            buffer: The result of :meth:`new_buffer`, which is overwritten.

        Returns:
            The input frames that are not entirely zero, (t, H', W', C'), and the number of zero frames before them.
        """
        frames = clip.movedim(0, -1)
        if not self.explicit:
            first = start - self.before
            skipped = max(-first, 0)
            return frames[first + skipped : first + self.num_inputs], skipped
        step, (_, (top, _), (left, _)), (_, height, width, _) = self.time_stride, self.pads, frames.shape
        first = start * step - self.before
        if first < 0 or first + len(buffer) * step > len(frames):
            buffer.zero_()
        for phase in range(step):
            skipped = max(ceil(-(first + phase) / step), 0)
            of_phase = frames[first + phase + skipped * step :: step][: len(buffer) - skipped]
            buffer[skipped : skipped + len(of_phase), top : top + height, left : left + width, phase] = of_phase
        return buffer.flatten(3), 0


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

    first: FastPointwise
    reduce1: FastPointwise
    reduce2: FastPointwise
    pool: FastPool
    last: FastPointwise

    def __init__(self, block: InceptionBlock):
        super().__init__()
        layers: list[Any] = [layer for branch in block.children() for layer in branch.children()]
        self.first, self.reduce1, self.conv1, self.reduce2, self.conv2, self.pool, self.last = layers
        self.widths = [_out_channels(layer) for layer in (self.first, self.conv1, self.conv2, self.last)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) to (B, b0 + b1 + b2 + b3, ...)."""
        out, rows = channels_last_like(x, sum(self.widths))
        columns = rows.split(self.widths, 1)
        reduced1, rows1 = channels_last_like(x, self.reduce1.out_channels)
        reduced2, rows2 = channels_last_like(x, self.reduce2.out_channels)
        axis = 2 if len(x) == 1 else 0  # the first axis with several positions: a range of it is contiguous
        num_rows = len(rows) // x.shape[axis]
        step = min(max(_CHUNK_ROWS // num_rows, 1), ceil(x.shape[axis] / 2))

        def run_pointwise_layers(first: int, last: int) -> None:
            start, stop = first * step, min(last * step, x.shape[axis])
            if axis == 2:
                pooled = max_pool_fast(x, self.pool.kernel, self.pool.stride, range(start, stop))
            else:
                pooled = max_pool_fast(x[start:stop], self.pool.kernel, self.pool.stride)
            for begin in range(start, stop, step):
                count = min(step, stop - begin)
                part = slice(begin * num_rows, (begin + count) * num_rows)
                inputs = rows_of(x.narrow(axis, begin, count))
                self.first.multiply(inputs, columns[0][part])
                self.reduce1.multiply(inputs, rows1[part])
                self.reduce2.multiply(inputs, rows2[part])
                self.last.multiply(rows_of(pooled.narrow(axis, begin - start, count)), columns[3][part])

        run_in_halves(run_pointwise_layers, ceil(x.shape[axis] / step))
        for conv, reduced, target in ((self.conv1, reduced1, columns[1]), (self.conv2, reduced2, columns[2])):
            if isinstance(conv, FastTimeConv):
                result = target.unflatten(0, (len(x), *x.shape[2:])).movedim(-1, 1)
                conv.forward_then(reduced, lambda frames: frames, result)
            else:
                target.copy_(rows_of(conv(reduced)))
        return out


def _out_channels(layer: nn.Module) -> int:
    assert isinstance(layer, FastPointwise | FastTimeConv | ConvUnit)
    return layer.conv.out_channels if isinstance(layer, ConvUnit) else layer.out_channels


class FastTrunk(nn.Module):
    """Replacement for the 3D :class:`~quovadis.models.inception.InceptionV1` of I3D.

    It runs the first five layers on a few frames at a time, which saves time and memory. The result for a clip depends
    neither on other clips of the batch, nor on whether two threads divide the work.

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
        self.num_weights = sum(parameter.numel() for parameter in self.parameters())

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
        num_pairs = len(x) // 2
        outputs: list[Tensor] = [x] * len(x)

        def run(start: int, stop: int) -> None:
            for clip in range(start, stop):
                for _, output in self.stages(x[clip : clip + 1], frozenset()):
                    outputs[clip] = output

        if num_pairs:
            run_in_halves(run, 2 * num_pairs)
        if len(x) % 2:
            if x[0, 0].numel() * self.num_weights < _SMALL_CLIP:
                run_in_one_thread(lambda: run(2 * num_pairs, len(x)))
            else:  # the layers divide the frames of the last clip
                run(2 * num_pairs, len(x))
        return torch.cat(outputs)

    def _first_layers(self, x: Tensor) -> Tensor:
        def pool_and_convolve(frames: Tensor) -> Tensor:
            return self.Conv3d_2b_1x1(self.MaxPool3d_2a_3x3(frames).relu_())

        return self.Conv3d_2c_3x3.forward_then(
            self.Conv3d_1a_7x7.forward_then(x, pool_and_convolve), self.MaxPool3d_3a_3x3
        )
