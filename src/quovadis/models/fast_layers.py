"""The layers of :mod:`quovadis.models.optimize`: what the plain layers compute, in less work, without gradients.

All of them expect the channels last in memory, and give them so. What is gained on a CPU, and what was tried and not
kept, stands in ``benchmarks/results``.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.inception import InceptionBlock, InceptionV1, MaxPoolSame
from quovadis.models.layers import ConvUnit, same_padding

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, 2.0)
"""Where the polynomials of :class:`FastTimeConv` are evaluated, as many as are needed, and at infinity: of the points
that were tried, with 1, which the bias needs, the ones with the smallest rounding errors."""
_FRAMES_OUT = 4
"""Frames of the output that are made together; time axes are mostly powers of two long."""
_CHUNK_VALUES = 2**22
"""Values of the products of one chunk: 16 MiB in float32, so that they stay in the cache of most processors."""


def rows_of(x: Tensor) -> Tensor:
    """(B, C, ...) as a matrix (cells, C); a view where the channels lie last."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def channels_last_like(x: Tensor, num_channels: int) -> tuple[Tensor, Tensor]:
    """An empty (B, num_channels, ...) for the cells of x, with its channels last in memory; and the matrix it is."""
    rows = x.new_empty(x.numel() // x.shape[1], num_channels)
    return rows.view(len(x), *x.shape[2:], num_channels).movedim(-1, 1), rows


def max_pool_fast(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """As :func:`quovadis.models.layers.max_pool_same`, one axis after the other, whole rows of channels at a time.

    PyTorch's own pooling on a CPU also notes where each maximum was, which nobody asks for without gradients.
    """
    for axis in range(x.ndim - 1, 1, -1):  # width first: that leaves the least for the other axes
        k, s = kernel[axis - 2], stride[axis - 2]
        if k > 1 or s > 1:
            x = _max_along(x, axis, k, s)
    return x


def _max_along(x: Tensor, axis: int, kernel: int, stride: int) -> Tensor:
    """The maximum of the input's neighbors along one axis; those outside of it do not count."""
    size = x.shape[axis]
    before, _ = same_padding(size, kernel, stride)
    rows = x.movedim(1, -1).movedim(axis - 1, 0)
    found = rows[::stride].clone()
    for offset in range(-before, kernel - before):
        if offset == 0:
            continue
        first = -(offset // stride) if offset < 0 else 0
        last = min(len(found), (size - 1 - offset) // stride + 1)
        if first < last:
            there = rows[first * stride + offset :: stride][: last - first]
            torch.maximum(found[first:last], there, out=found[first:last])
    return found.movedim(0, axis - 1).movedim(-1, 1)


class FastPool(nn.Module):
    """:class:`~quovadis.models.inception.MaxPoolSame`, see :func:`max_pool_fast`."""

    def __init__(self, pool: MaxPoolSame):
        super().__init__()
        self.kernel, self.stride = pool.kernel, pool.stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to (B, C, ...), each side divided by the stride and rounded up."""
        return max_pool_fast(x, self.kernel, self.stride)


class FastPointwise(nn.Module):
    """A convolution of one cell, and ReLU, as a matrix product that can write into a part of a larger output.

    Args:
        conv: with its bias; stride 1.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d):
        super().__init__()
        assert conv.bias is not None
        self.weight = nn.Parameter(conv.weight.detach().flatten(1).t().contiguous())
        self.bias = nn.Parameter(conv.bias.detach())

    @property
    def out_channels(self) -> int:
        """Columns of the product."""
        return len(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) to (B, out, ...)."""
        out, rows = channels_last_like(x, self.out_channels)
        self.into(x, rows)
        return out

    def into(self, x: Tensor, rows: Tensor) -> None:
        """The same, written into (cells, out), which may be columns of a wider matrix."""
        torch.addmm(self.bias, rows_of(x), self.weight, out=rows).relu_()


class FastTimeConv(nn.Module):
    """A 3D convolution with SAME padding, and ReLU, in about half the multiplications: Winograd's, along time.

    A convolution of r taps is a product of polynomials, and a product needs only as many multiplications as it has
    coefficients, if both factors are evaluated at that many points first (Toom and Cook; Winograd 1980; for networks
    Lavin and Gray, arXiv:1509.09308). Here 3 + r frames are combined into as many, each of those
    goes through a 2D convolution, and the combinations of these are four frames of the output: for a kernel of 3 that
    is 6 convolutions where the direct sum has 12. At stride 2 two neighboring frames are taken as one of twice the
    channels: a kernel of 7 has 4 taps on those, and 7 convolutions stand for 14. Only time is done so, because along
    space the combinations would cost more.

    The work is done a few frames at a time, so that what lies between the steps fits into the cache. The rounding
    error of one layer in float32 is three to seven times that of the direct sum, about 1e-6 of the output's deviation;
    the logits of I3D are as near to those of float64 as without it.

    Args:
        conv: with its bias; up to 4 taps along time after the division by the stride.
    """

    to_points: Tensor
    from_points: Tensor

    def __init__(self, conv: nn.Conv3d):
        super().__init__()
        assert conv.bias is not None
        self.kernel, self.stride = conv.kernel_size, conv.stride
        reach = -(-self.kernel[0] // self.stride[0])
        at_outputs, at_taps, to_points = _transforms(_FRAMES_OUT, reach)
        taps = F.pad(conv.weight.detach().double(), (0, 0, 0, 0, 0, reach * self.stride[0] - self.kernel[0]))
        weights = torch.einsum("pk,oikshw->posihw", at_taps, taps.unflatten(2, (reach, self.stride[0]))).flatten(2, 3)
        like, layout = conv.weight, torch.channels_last
        self.weights = nn.ParameterList(w.to(like.device, like.dtype, memory_format=layout) for w in weights)
        self.bias = nn.Parameter(conv.bias.detach())
        self.register_buffer("to_points", to_points.to(like.device, like.dtype))
        self.register_buffer("from_points", at_outputs.T.contiguous().to(like.device, like.dtype))

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return len(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, out, T, H, W), each side divided by its stride and rounded up."""
        return self.then(x, lambda piece: piece)

    def then(self, x: Tensor, rest: Callable[[Tensor], Tensor]) -> Tensor:
        """The same followed by what works on each frame by itself, which is done while the frames are in the cache."""
        out: Tensor | None = None
        num_frames = -(-x.shape[2] // self.stride[0])
        for places, piece in self._pieces(x, num_frames):
            done = rest(piece)
            if out is None:
                out = done.new_empty(len(x), num_frames, *done.shape[3:], done.shape[1]).movedim(-1, 1)
            for (clip, start), frames in zip(places, done[0].split(_FRAMES_OUT, 1), strict=False):
                target = out[clip, :, start : start + _FRAMES_OUT]
                target.copy_(frames[:, : target.shape[1]])
        assert out is not None
        return out

    def _pieces(self, x: Tensor, num_frames: int) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
        """The output in pieces (1, out, t, H', W'): a few times four frames, each with its clip and start.

        A piece lies where the one before it lay.
        """
        size = [-(-n // s) for n, s in zip(x.shape[3:], self.stride[1:], strict=True)]
        num_points, cells = len(self.weights), size[0] * size[1]
        places = [(clip, start) for clip in range(len(x)) for start in range(0, num_frames, _FRAMES_OUT)]
        at_once = min(max(_CHUNK_VALUES // (num_points * cells * self.out_channels), 1), len(places))
        last_clip, frames, before, padding = 0, *self._padded(x[0])
        combined = x.new_empty(num_points, at_once, *frames.shape[1:])
        products = x.new_empty(num_points, at_once, cells * self.out_channels)
        sums = x.new_empty(at_once, _FRAMES_OUT, cells * self.out_channels)
        for first in range(0, len(places), at_once):
            here = places[first : first + at_once]
            for number, (clip, start) in enumerate(here):
                if clip != last_clip:
                    last_clip, frames = clip, self._padded(x[clip])[0]
                self._combine(frames, start - before, combined[:, number].flatten(1))
            for point, weight in enumerate(self.weights):
                y = combined[point, : len(here)].movedim(-1, 1)
                bias = self.bias if point == 1 else None  # of the point 1 every frame of the output has one
                y = F.conv2d(y, weight, bias, self.stride[1:], padding)
                products[point, : len(here)] = y.movedim(1, -1).flatten(1)
            for number in range(len(here)):
                torch.mm(self.from_points, products[:, number], out=sums[number])
            piece = sums[: len(here)].relu_().view(-1, *size, self.out_channels)
            yield here, piece.movedim(-1, 0)[None]

    def _combine(self, frames: Tensor, start: int, out: Tensor) -> None:
        """The combinations of the frames from ``start`` on; those outside of the clip are black."""
        stop = min(start + len(self.to_points), len(frames))
        inside = slice(max(start, 0), stop)
        torch.mm(self.to_points[:, inside.start - start : stop - start], frames[inside].flatten(1), out=out)

    def _padded(self, clip: Tensor) -> tuple[Tensor, int, list[int]]:
        """The clip as frames (T, H, W, in), how many black ones are thought before them, and the padding in space.

        It is copied only where the convolution cannot pad it, or has a stride: then ``stride`` frames become one.
        """
        pads = [same_padding(n, k, s) for n, k, s in zip(clip.shape[1:], self.kernel, self.stride, strict=True)]
        (before, _), (top, bottom), (left, right) = pads
        step, frames = self.stride[0], clip.movedim(0, -1)
        if step == 1 and top == bottom and left == right:
            return frames, before, [top, left]
        num_frames, height, width, channels = frames.shape
        size = top + height + bottom, left + width + right
        padded = clip.new_zeros(-(-(before + num_frames) // step), *size, step, channels)
        for phase in range(step):
            first = max(-(-(before - phase) // step), 0)
            those = frames[first * step + phase - before :: step]
            padded[first : first + len(those), top : top + height, left : left + width, phase] = those
        return padded.flatten(3), 0, [0, 0]


def _transforms(num_outputs: int, num_taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices at points: of outputs (points, outputs), of taps (points, taps), of inputs (points, points).

    ``outputs.T @ ((taps @ g) * (inputs @ d))`` is the correlation of d with g: the transpose of the product of two
    polynomials by their values (Toom and Cook).

    >>> outputs, taps, inputs = _transforms(4, 3)
    >>> d, g = torch.arange(6).double() ** 2, torch.tensor([1.0, -2.0, 1.0]).double()
    >>> (outputs.T @ ((taps @ g) * (inputs @ d))).round(decimals=9).tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    points = torch.tensor(_POINTS[: num_outputs + num_taps - 2], dtype=torch.float64)[:, None]

    def values(count: int) -> Tensor:
        """Of the powers at the points; the last, infinity, sees only the highest."""
        return torch.cat([points ** torch.arange(count), torch.eye(count, dtype=torch.float64)[-1:]])

    return values(num_outputs), values(num_taps), torch.linalg.inv(values(num_outputs + num_taps - 1)).T


class FastInceptionBlock(nn.Module):
    """:class:`~quovadis.models.inception.InceptionBlock`, whose branches write into one output.

    Args:
        block: its layers fast already.
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
                last.into(y, columns)
            else:
                columns.copy_(rows_of(last(y)))
        return out


def _out_channels(layer: nn.Module) -> int:
    assert isinstance(layer, FastPointwise | FastTimeConv | ConvUnit)
    return layer.conv.out_channels if isinstance(layer, ConvUnit) else layer.out_channels


class FastTrunk(InceptionV1):
    """I3D's trunk, whose first layers run a few frames at a time: in the cache, and in little memory.

    Args:
        trunk: its layers fast already.
    """

    def __init__(self, trunk: InceptionV1):
        nn.Module.__init__(self)
        self.dims, self.out_channels, self.endpoint_names = trunk.dims, trunk.out_channels, trunk.endpoint_names
        for name in trunk.endpoint_names:
            self.add_module(name, trunk.get_submodule(name))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, 1024, T/8, H/32, W/32), rounded up."""
        stages = [self.get_submodule(name) for name in self.endpoint_names]
        first, pool2, conv2b, conv2c, pool3, *rest = stages
        assert isinstance(first, FastTimeConv)
        assert isinstance(conv2c, FastTimeConv)
        x = first.then(x, nn.Sequential(pool2, conv2b))
        x = conv2c.then(x, pool3)
        for stage in rest:
            x = stage(x)
        return x
