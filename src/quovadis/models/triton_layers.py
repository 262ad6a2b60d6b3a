"""The layers of :mod:`quovadis.models.optimization` for an NVIDIA GPU: I3D's trunk with fused Triton kernels.

cuDNN computes the convolutions and cuBLAS those of one cell. The kernels here do the rest, each in one pass:

- bias and ReLU, written directly into the channels of a block's output, so that nothing is concatenated;
- max pooling without indices, which also adds the bias and the ReLU of the convolution before it;
- the rearrangement that gives the first convolution 64 channels instead of 3.

All of them expect the channels last in memory. Measurements are in ``benchmarks/results``.
"""

from collections.abc import Iterator, Sequence, Set

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from quovadis.models.fast_layers import channels_last_like, rows_of
from quovadis.models.inception import InceptionBlock, InceptionV1, MaxPoolSame
from quovadis.models.layers import ConvUnit, same_padding
from quovadis.models.paired_convolution import pair_channels, pair_sizes, pair_weight, unpair

_VALUES = 4096  # handled by one program
_FRAMES = 8  # that one program pools, so that neighboring windows share their maxima


class TritonConv(nn.Module):
    """3D convolution of stride 1 with SAME padding, bias and ReLU.

    Args:
        conv: Convolution with a bias; its kernel has odd sides.
    """

    def __init__(self, conv: nn.Conv3d):
        super().__init__()
        self.weight, self.bias = conv.weight, _wide_bias(conv)
        self.padding = [side // 2 for side in conv.kernel_size]

    def raw(self, x: Tensor) -> Tensor:
        """Convolve without bias and ReLU: (B, in, T, H, W) to (B, out, T, H, W)."""
        return F.conv3d(x, self.weight, None, 1, self.padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, out, T, H, W)."""
        out, rows = channels_last_like(x, len(self.bias))
        self.into(x, rows)
        return out

    def into(self, x: Tensor, rows: Tensor) -> None:
        """Write the output to (cells, out), which may be columns of a wider matrix."""
        bias_relu(rows_of(self.raw(x)), self.bias, rows)


class TritonPointwise(nn.Module):
    """Convolution of one cell with bias and ReLU.

    In half precision it is a matrix product. In float32 it is a convolution, so that it follows PyTorch's setting for
    TF32 in convolutions.

    Args:
        conv: Convolution with a bias and stride 1.
    """

    narrow_bias: Tensor

    def __init__(self, conv: nn.Conv3d):
        super().__init__()
        self.weight, self.bias = conv.weight, _wide_bias(conv)
        self.register_buffer("narrow_bias", self.bias.detach().to(conv.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, out, T, H, W)."""
        out, rows = channels_last_like(x, len(self.bias))
        self.into(x, rows)
        return out

    def into(self, x: Tensor, rows: Tensor) -> None:
        """Write the output to (cells, out), which may be columns of a wider matrix."""
        if x.dtype.itemsize > 2:
            bias_relu(rows_of(F.conv3d(x, self.weight)), self.bias, rows)
        elif rows.is_contiguous() and x.is_cuda:  # cuBLAS adds the bias and the ReLU
            torch.ops.aten._addmm_activation.out(self.narrow_bias, rows_of(x), self.weight.flatten(1).t(), out=rows)
        else:
            bias_relu(torch.mm(rows_of(x), self.weight.flatten(1).t()), self.bias, rows)


class TritonStem(nn.Module):
    """The first convolution with bias and ReLU; see :func:`~quovadis.models.paired_convolution.convolve_pairs`.

    Args:
        conv: Convolution with a bias and stride 2.
    """

    def __init__(self, conv: nn.Conv3d):
        super().__init__()
        self.kernel = conv.kernel_size
        # The bias comes first because the dtype of a network's first parameter is that of its inputs.
        self.bias = _wide_bias(conv)
        self.weight = nn.Parameter(pair_weight(conv.weight.detach()), requires_grad=False)

    def raw(self, x: Tensor) -> Tensor:
        """Convolve without bias and ReLU: (B, in, T, H, W) to (B, out, T/2, H/2, W/2), rounded up."""
        return unpair(F.conv3d(pair_cells(x, self.kernel, self.weight.dtype), self.weight, None, (2, 1, 1)), x.shape[4])

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, out, T/2, H/2, W/2), rounded up."""
        raw = self.raw(x)
        out, rows = channels_last_like(raw, len(self.bias))
        bias_relu(rows_of(raw), self.bias, rows)
        return out


class TritonPool(nn.Module):
    """Max pooling with SAME padding; see :func:`max_pool`."""

    def __init__(self, pool: MaxPoolSame):
        super().__init__()
        self.kernel, self.stride = pool.kernel, pool.stride

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, C, T, H, W) to (B, C, ...), each side divided by the stride and rounded up."""
        return max_pool(x, self.kernel, self.stride, bias)


class TritonInceptionBlock(nn.Module):
    """:class:`~quovadis.models.inception.InceptionBlock` whose branches write into one output."""

    def __init__(self, block: InceptionBlock):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(_fused(layer) for layer in branch.children())) for branch in block.children()
        )
        self.widths = [len(list(branch.children())[-1].get_parameter("bias")) for branch in self.branches]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, b0 + b1 + b2 + b3, T, H, W)."""
        out, rows = channels_last_like(x, sum(self.widths))
        for branch, columns in zip(self.branches, rows.split(self.widths, 1), strict=True):
            *layers, last = branch.children()
            y = x
            for layer in layers:
                y = layer(y)
            assert isinstance(last, TritonConv | TritonPointwise)
            last.into(y, columns)
        return out


class TritonTrunk(nn.Module):
    """Replacement for the 3D :class:`~quovadis.models.inception.InceptionV1` of I3D.

    Args:
        trunk: A channels-last trunk whose batch norm is folded into the convolutions.
    """

    Conv3d_1a_7x7: TritonStem
    MaxPool3d_2a_3x3: TritonPool
    Conv3d_2b_1x1: TritonPointwise
    Conv3d_2c_3x3: TritonConv
    MaxPool3d_3a_3x3: TritonPool

    def __init__(self, trunk: InceptionV1):
        super().__init__()
        self.endpoint_names = trunk.endpoint_names
        for name in self.endpoint_names:
            self.add_module(name, _fused(trunk.get_submodule(name)))

    def stages(self, x: Tensor, names: Set[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Run layer by layer and yield ``(endpoint name, output)``."""
        for name in self.endpoint_names:
            x = self.get_submodule(name)(x)
            yield name, x

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, 1024, T/8, H/32, W/32), rounded up."""
        x = self.Conv3d_2b_1x1(self.MaxPool3d_2a_3x3(self.Conv3d_1a_7x7.raw(x), self.Conv3d_1a_7x7.bias))
        x = self.MaxPool3d_3a_3x3(self.Conv3d_2c_3x3.raw(x), self.Conv3d_2c_3x3.bias)
        for name in self.endpoint_names[self.endpoint_names.index("MaxPool3d_3a_3x3") + 1 :]:
            x = self.get_submodule(name)(x)
        return x


def _fused(layer: nn.Module) -> nn.Module:
    match layer:
        case MaxPoolSame():
            return TritonPool(layer)
        case InceptionBlock():
            return TritonInceptionBlock(layer)
        case ConvUnit(conv=nn.Conv3d() as conv) if set(conv.kernel_size) == {1}:
            return TritonPointwise(conv)
        case ConvUnit(conv=nn.Conv3d() as conv) if set(conv.stride) == {2}:
            return TritonStem(conv)
        case ConvUnit(conv=nn.Conv3d() as conv):
            return TritonConv(conv)
    raise AssertionError(layer)


def _wide_bias(conv: nn.Conv3d) -> nn.Parameter:
    """The bias in the precision in which it is added: float32, or float64."""
    assert conv.bias is not None
    bias = conv.bias.detach()
    return nn.Parameter(bias.float() if bias.dtype.itemsize < 4 else bias, requires_grad=False)


def bias_relu(rows: Tensor, bias: Tensor, out: Tensor) -> None:
    """Write ``relu(rows + bias)`` to ``out``.

    Args:
        rows: (cells, C), contiguous.
        bias: (C,), float32 or float64.
        out: (cells, C); may be columns of a wider matrix, and may be ``rows``.
    """
    num_cells, channels = rows.shape
    width = triton.next_power_of_2(channels)
    cells = max(_VALUES // width, 1)
    with torch.cuda.device_of(rows):
        _bias_relu[(triton.cdiv(num_cells, cells),)](rows, bias, out, num_cells, channels, out.stride(0), cells, width)


def max_pool(x: Tensor, kernel: Sequence[int], stride: Sequence[int], bias: Tensor | None = None) -> Tensor:
    """Pool as :func:`quovadis.models.layers.max_pool_same`, without indices.

    Args:
        x: (B, C, T, H, W), channels last.
        kernel: Sides of the window.
        stride: Steps of the window.
        bias: (C,), float32 or float64. If given, it is added after pooling, followed by ReLU. That equals pooling
            after both, because both are monotonic.

    Returns:
        (B, C, ...), each side divided by the stride and rounded up.
    """
    x = x.contiguous(memory_format=torch.channels_last_3d)
    size, channels = x.shape[2:], x.shape[1]
    pads = [same_padding(n, k, s)[0] for n, k, s in zip(size, kernel, stride, strict=True)]
    out_size = [-(-n // s) for n, s in zip(size, stride, strict=True)]
    rows = x.new_empty(len(x), *out_size, channels)
    width = min(triton.next_power_of_2(channels), 64)
    cells = max(_VALUES // 4 // width, 1)
    num_cells, segments = out_size[1] * out_size[2], triton.cdiv(out_size[0], _FRAMES)
    grid = (triton.cdiv(num_cells, cells), triton.cdiv(channels, width), len(x) * segments)
    with torch.cuda.device_of(x):
        _max_pool[grid](
            *(x, rows, x if bias is None else bias, *size, channels, *out_size, *pads, segments),
            *(*kernel, *stride, bias is not None, _FRAMES, cells, width),
        )
    return rows.movedim(-1, 1)


def pair_cells(x: Tensor, kernel: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Compute :func:`quovadis.models.paired_convolution.pair_cells` in one pass.

    Args:
        x: (B, C, T, H, W) in any layout.
        kernel: Sides of the kernel that is applied later.
        dtype: Of the result.
    """
    size, channels = x.shape[2:], x.shape[1]
    before, grid = pair_sizes(size, kernel)
    slots = pair_channels(channels, kernel)
    rows = x.new_empty(len(x), *grid, slots, dtype=dtype)
    width = triton.next_power_of_2(slots)
    cells = max(_VALUES // width, 1)
    with torch.cuda.device_of(x):
        _pair_cells[(len(x) * grid[0] * grid[1], triton.cdiv(grid[2], cells))](
            x, rows, *x.stride(), *size, *grid, *before, slots, channels, kernel[2] + 2, cells, width
        )
    return rows.movedim(-1, 1)


@triton.jit
def _bias_relu(rows, bias, out, num_cells, channels, out_stride, CELLS: tl.constexpr, WIDTH: tl.constexpr):
    cell = (tl.program_id(0) * CELLS + tl.arange(0, CELLS)).to(tl.int64)[:, None]
    channel = tl.arange(0, WIDTH)[None, :]
    inside = (cell < num_cells) & (channel < channels)
    shift = tl.load(bias + channel, channel < channels, 0.0)
    value = tl.load(rows + cell * channels + channel, inside, 0.0).to(shift.dtype) + shift
    value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(out + cell * out_stride + channel, value.to(out.dtype.element_ty), inside)


@triton.jit
def _plane_max(
    x, t, top, left, channel, inside, num_frames, height, width, channels, KH: tl.constexpr, KW: tl.constexpr
):
    """Maximum over the window in one frame; minus infinity outside of the clip."""
    there = inside & (t >= 0) & (t < num_frames)
    best = tl.full(inside.shape, float("-inf"), x.dtype.element_ty)
    for j in tl.static_range(KH):
        for i in tl.static_range(KW):
            y, column = top + j, left + i
            here = there & (y >= 0) & (y < height) & (column >= 0) & (column < width)
            value = tl.load(x + ((t * height + y) * width + column) * channels + channel, here, float("-inf"))
            best = tl.maximum(best, value, propagate_nan=tl.PropagateNan.ALL)
    return best


@triton.jit
def _max_pool(
    x, out, bias, num_frames, height, width, channels, out_frames, out_height, out_width, front, above, before,
    segments, KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, ST: tl.constexpr, SH: tl.constexpr,
    SW: tl.constexpr, HAS_BIAS: tl.constexpr, FRAMES: tl.constexpr, CELLS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)[:, None]
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)[None, :]
    clip, first = (tl.program_id(2) // segments).to(tl.int64), tl.program_id(2) % segments * FRAMES
    inside = (cell < out_height * out_width) & (channel < channels)
    top, left = cell // out_width * SH - above, cell % out_width * SW - before
    source = x + clip * num_frames * height * width * channels
    target = out + clip * out_frames * out_height * out_width * channels + cell * channels + channel
    if HAS_BIAS:
        shift = tl.load(bias + channel, channel < channels, 0.0)
    if KT == 3 and ST == 1:  # each frame's maximum serves three outputs
        m0 = _plane_max(source, first - front, top, left, channel, inside, num_frames, height, width, channels, KH, KW)
        m1 = _plane_max(
            source, first - front + 1, top, left, channel, inside, num_frames, height, width, channels, KH, KW
        )
    for number in range(FRAMES):
        t = first + number
        if KT == 3 and ST == 1:
            m2 = _plane_max(
                source, t - front + 2, top, left, channel, inside, num_frames, height, width, channels, KH, KW
            )
            best = tl.maximum(m0, m1, propagate_nan=tl.PropagateNan.ALL)
            best = tl.maximum(best, m2, propagate_nan=tl.PropagateNan.ALL)
            m0, m1 = m1, m2
        else:
            best = _plane_max(
                source, t * ST - front, top, left, channel, inside, num_frames, height, width, channels, KH, KW
            )
            for k in tl.static_range(1, KT):
                other = _plane_max(
                    source, t * ST - front + k, top, left, channel, inside, num_frames, height, width, channels, KH, KW
                )
                best = tl.maximum(best, other, propagate_nan=tl.PropagateNan.ALL)
        at = target + t * out_height * out_width * channels
        there = inside & (t < out_frames)
        if HAS_BIAS:
            value = tl.maximum(best.to(shift.dtype) + shift, 0.0, propagate_nan=tl.PropagateNan.ALL)
            tl.store(at, value.to(out.dtype.element_ty), there)
        else:
            tl.store(at, best, there)


@triton.jit
def _pair_cells(
    x, out, stride_clip, stride_channel, stride_t, stride_y, stride_x, num_frames, height, width,
    grid_t, grid_y, grid_x, front, above, before, slots,
    CHANNELS: tl.constexpr, WINDOW: tl.constexpr, CELLS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    cell = tl.program_id(1) * CELLS + tl.arange(0, CELLS)[:, None]
    slot = tl.arange(0, WIDTH)[None, :]
    clip = (row // (grid_t * grid_y)).to(tl.int64)
    t, y = row // grid_y % grid_t - front, row % grid_y * 2 + slot // (WINDOW * CHANNELS) - above
    column = cell * 4 + slot // CHANNELS % WINDOW - before
    there = (slot < 2 * WINDOW * CHANNELS) & (t >= 0) & (t < num_frames) & (y >= 0) & (y < height)
    there = there & (column >= 0) & (column < width) & (cell < grid_x)
    source = x + clip * stride_clip + slot % CHANNELS * stride_channel
    value = tl.load(source + t * stride_t + y * stride_y + column * stride_x, there, 0.0)
    target = out + row.to(tl.int64) * grid_x * slots + cell * slots + slot
    tl.store(target, value.to(out.dtype.element_ty), (cell < grid_x) & (slot < slots))
