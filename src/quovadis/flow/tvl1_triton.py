"""TV-L1 on NVIDIA GPUs: Triton kernels over a batch of pairs.

The algorithm is that of :mod:`quovadis.flow.tvl1_reference`. An iteration is two in-place kernels, one for the flow and
one for the dual variables. The stopping rule is evaluated on the GPU, from sums in a fixed order, so the result of a
pair is deterministic and independent of its batch. Programs of stopped pairs return at once, and the host checks only
every few iterations whether any pair is still running.

An iteration moves 22 planes of float32 (12 for the flow, 10 for the dual variables). With 64 pairs, the GPU is busy for
70 % of the time. With fewer pairs, the host limits the speed because it launches 3 kernels per iteration. For
measurements, also of a single kernel per iteration (not faster), see ``benchmarks/results``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from quovadis.flow.parameters import TVL1Parameters
from quovadis.flow.tvl1_reference import centered_gradient, median_filter, resize

_BLOCK = 1024
_CHECK_INTERVAL = 10  # iterations between checks on the host


def tvl1_triton(first: Tensor, second: Tensor, parameters: TVL1Parameters) -> Tensor:
    """Compute the flow from each image of ``first`` to the one of ``second``; see :func:`tvl1_reference`.

    Args:
        first: uint8 tensor (N, H, W), grayscale, on the GPU.
        second: Like ``first``.
        parameters: Parameters of TV-L1.

    Returns:
        float32 tensor (N, 2, H, W) in pixels, on the GPU; channel 0 points right, channel 1 down.
    """
    with torch.cuda.device_of(first):  # Triton launches on the current device
        return _estimate(first, second, parameters)


def _estimate(first: Tensor, second: Tensor, parameters: TVL1Parameters) -> Tensor:
    levels = [(first.float(), second.float())]
    zoom = 1 / parameters.scale_step
    for size in parameters.pyramid_sizes(first.shape[1], first.shape[2])[1:]:
        levels.append((resize(levels[-1][0], size, zoom, zoom), resize(levels[-1][1], size, zoom, zoom)))
    flow = torch.zeros(len(first), 2, *levels[-1][0].shape[1:], device=first.device)
    for number, (i0, i1) in reversed(list(enumerate(levels))):
        flow = _refine(i0.contiguous(), i1.contiguous(), flow, parameters)
        if number:
            size = (levels[number - 1][0].shape[1], levels[number - 1][0].shape[2])
            steps = flow.shape[2] / size[0], flow.shape[3] / size[1]
            flow = resize(flow.flatten(0, 1), size, *steps).unflatten(0, (-1, 2)).contiguous() * zoom
    return flow


def _refine(i0: Tensor, i1: Tensor, flow: Tensor, parameters: TVL1Parameters) -> Tensor:
    """Refine the flow on one level: warp, linearize, iterate. Warps share the dual variables."""
    num_pairs, height, width = i0.shape
    num_blocks = triton.cdiv(height * width, _BLOCK)
    grid = (num_blocks, num_pairs)
    pixels = torch.cat([i1[:, None], centered_gradient(i1)], 1).contiguous()
    dual = flow.new_zeros(num_pairs, 4, height, width)
    data = flow.new_empty(num_pairs, 4, height, width)
    other = torch.empty_like(flow)
    partial = flow.new_empty(num_pairs, num_blocks)
    running = torch.empty(num_pairs, dtype=torch.int32, device=flow.device)
    theta, reach = parameters.tightness, parameters.attachment * parameters.tightness
    ratio = parameters.time_step / parameters.tightness
    threshold = parameters.stop_change_px**2 * height * width
    for _ in range(parameters.num_warps):
        _linearize[grid](i0, pixels, flow, data, height, width, float(parameters.positions_per_px), _BLOCK)
        running.fill_(1)
        for _ in range(parameters.num_outer_iterations):
            if parameters.median_size_px == 5:
                _median5[(num_blocks, 2 * num_pairs)](flow, other, running, height, width, _BLOCK)
                flow, other = other, flow
            elif parameters.median_size_px > 1:
                filtered = median_filter(flow, parameters.median_size_px)
                flow = torch.where(running.bool()[:, None, None, None], filtered, flow).contiguous()
            for step in range(parameters.num_inner_iterations):
                _update_flow[grid](flow, dual, data, running, partial, height, width, theta, reach, _BLOCK)
                _update_dual[grid](flow, dual, running, height, width, ratio, _BLOCK)
                _decide[(num_pairs,)](partial, running, num_blocks, threshold, triton.next_power_of_2(num_blocks))
                if step % _CHECK_INTERVAL == _CHECK_INTERVAL - 1 and not running.any():
                    break
            if not running.any():
                break
    return flow


@triton.jit
def _update_flow(u, p, data, running, partial, height, width, theta, reach, BLOCK: tl.constexpr):
    """Eq. 13 (its three cases are one clamp) and 14, in place; the squared change of each block goes to ``partial``."""
    pair = tl.program_id(1).to(tl.int64)
    if tl.load(running + pair) != 0:
        size = height * width
        pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = pixel < size
        x, y = pixel % width, pixel // width
        u1_at, u2_at = u + pair * 2 * size + pixel, u + (pair * 2 + 1) * size + pixel
        dual_at, data_at = p + pair * 4 * size + pixel, data + pair * 4 * size + pixel
        u1, u2 = tl.load(u1_at, inside, 0.0), tl.load(u2_at, inside, 0.0)
        gx, gy = tl.load(data_at, inside, 0.0), tl.load(data_at + size, inside, 0.0)
        inverse, constant = tl.load(data_at + 2 * size, inside, 0.0), tl.load(data_at + 3 * size, inside, 0.0)
        factor = -(constant + (gx * u1 + gy * u2)) * inverse
        factor = tl.maximum(tl.minimum(factor, reach), -reach)
        left, up = inside & (x > 0), inside & (y > 0)
        across1 = tl.load(dual_at, inside, 0.0) - tl.load(dual_at - 1, left, 0.0)
        down1 = tl.load(dual_at + size, inside, 0.0) - tl.load(dual_at + size - width, up, 0.0)
        across2 = tl.load(dual_at + 2 * size, inside, 0.0) - tl.load(dual_at + 2 * size - 1, left, 0.0)
        down2 = tl.load(dual_at + 3 * size, inside, 0.0) - tl.load(dual_at + 3 * size - width, up, 0.0)
        step1 = factor * gx + theta * (across1 + down1)
        step2 = factor * gy + theta * (across2 + down2)
        tl.store(u1_at, u1 + step1, inside)
        tl.store(u2_at, u2 + step2, inside)
        change = tl.sum(tl.where(inside, step1 * step1 + step2 * step2, 0.0))
        tl.store(partial + pair * tl.num_programs(0) + tl.program_id(0), change)


@triton.jit
def _update_dual(u, p, running, height, width, ratio, BLOCK: tl.constexpr):
    """Eq. 15, in place."""
    pair = tl.program_id(1).to(tl.int64)
    if tl.load(running + pair) != 0:
        size = height * width
        pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = pixel < size
        right, below = inside & (pixel % width < width - 1), inside & (pixel // width < height - 1)
        for component in tl.static_range(2):
            u_at = u + (pair * 2 + component) * size + pixel
            p_at = p + (pair * 4 + 2 * component) * size + pixel
            here = tl.load(u_at, inside, 0.0)
            across = ratio * tl.where(right, tl.load(u_at + 1, right, 0.0) - here, 0.0)
            down = ratio * tl.where(below, tl.load(u_at + width, below, 0.0) - here, 0.0)
            scale = 1.0 / (1.0 + tl.sqrt(across * across + down * down))
            tl.store(p_at, (tl.load(p_at, inside, 0.0) + across) * scale, inside)
            tl.store(p_at + size, (tl.load(p_at + size, inside, 0.0) + down) * scale, inside)


@triton.jit
def _decide(partial, running, num_blocks, threshold, BLOCK: tl.constexpr):
    """Stop a pair when its squared change is at most the threshold."""
    pair = tl.program_id(0)
    if tl.load(running + pair) != 0:
        block = tl.arange(0, BLOCK)
        change = tl.sum(tl.load(partial + pair * num_blocks + block, block < num_blocks, 0.0))
        tl.store(running + pair, (change > threshold).to(tl.int32))


@triton.jit
def _linearize(i0, pixels, u, data, height, width, positions, BLOCK: tl.constexpr):
    """Warp the second image and its gradient by the flow (cubic, zeros outside) and compute the data term."""
    pair = tl.program_id(1).to(tl.int64)
    size = height * width
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < size
    u1 = tl.load(u + pair * 2 * size + pixel, inside, 0.0)
    u2 = tl.load(u + (pair * 2 + 1) * size + pixel, inside, 0.0)
    across = _nearest((pixel % width).to(tl.float32) + u1, positions)
    down = _nearest((pixel // width).to(tl.float32) + u2, positions)
    left, top = tl.floor(across), tl.floor(down)
    # Everything outside of the image is 0. Clamping keeps the integers in range.
    column = tl.minimum(tl.maximum(left, -4.0), width + 4.0).to(tl.int32)
    row = tl.minimum(tl.maximum(top, -4.0), height + 4.0).to(tl.int32)
    value = tl.zeros((BLOCK,), tl.float32)
    gx = tl.zeros((BLOCK,), tl.float32)
    gy = tl.zeros((BLOCK,), tl.float32)
    for j in tl.static_range(4):
        for i in tl.static_range(4):
            weight = _cubic(down - top - (j - 1)) * _cubic(across - left - (i - 1))
            y, x = row + (j - 1), column + (i - 1)
            there = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            at = pixels + pair * 3 * size + y * width + x
            value += weight * tl.load(at, there, 0.0)
            gx += weight * tl.load(at + size, there, 0.0)
            gy += weight * tl.load(at + 2 * size, there, 0.0)
    norm = gx * gx + gy * gy
    data_at = data + pair * 4 * size + pixel
    tl.store(data_at, gx, inside)
    tl.store(data_at + size, gy, inside)
    tl.store(data_at + 2 * size, tl.where(norm > 1.1920929e-07, 1.0 / norm, 0.0), inside)
    i0_here = tl.load(i0 + pair * size + pixel, inside, 0.0)
    tl.store(data_at + 3 * size, value - gx * u1 - gy * u2 - i0_here, inside)


@triton.jit
def _nearest(position, positions):
    """Round to the nearest multiple of 1 / positions, halves to even; no-op if ``positions`` is 0."""
    scaled = position * tl.where(positions > 0, positions, 1.0)
    up = tl.floor(scaled + 0.5)
    odd = tl.floor(up * 0.5) * 2.0 != up
    rounded = tl.where((up - scaled == 0.5) & odd, up - 1.0, up)
    return tl.where(positions > 0, rounded / tl.where(positions > 0, positions, 1.0), position)


@triton.jit
def _cubic(distance):
    """Return the weight of a pixel at this distance (Keys 1981, with a = -3/4)."""
    d = tl.abs(distance)
    near = (1.25 * d - 2.25) * d * d + 1.0
    far = ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0
    return tl.where(d <= 1.0, near, tl.where(d < 2.0, far, 0.0))


@triton.jit
def _median5(source, target, running, height, width, BLOCK: tl.constexpr):
    """Apply a 5x5 median filter with repeated border pixels. Planes of stopped pairs are copied."""
    plane = tl.program_id(1).to(tl.int64)
    size = height * width
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < size
    at = source + plane * size
    if tl.load(running + plane // 2) == 0:
        tl.store(target + plane * size + pixel, tl.load(at + pixel, inside, 0.0), inside)
    else:
        x, y = pixel % width, pixel // width
        # Sorting each column, then each row of equal ranks, leaves 13 candidates for the median.
        a0, b0, c0, d0, e0 = _sorted_column(at, x - 2, y, height, width, inside)
        a1, b1, c1, d1, e1 = _sorted_column(at, x - 1, y, height, width, inside)
        a2, b2, c2, d2, e2 = _sorted_column(at, x, y, height, width, inside)
        a3, b3, c3, d3, e3 = _sorted_column(at, x + 1, y, height, width, inside)
        a4, b4, c4, d4, e4 = _sorted_column(at, x + 2, y, height, width, inside)
        a0, a1, a2, a3, a4 = _sort5(a0, a1, a2, a3, a4)
        b0, b1, b2, b3, b4 = _sort5(b0, b1, b2, b3, b4)
        c0, c1, c2, c3, c4 = _sort5(c0, c1, c2, c3, c4)
        d0, d1, d2, d3, d4 = _sort5(d0, d1, d2, d3, d4)
        e0, e1, e2, e3, e4 = _sort5(e0, e1, e2, e3, e4)
        # The network of quovadis.flow.tvl1_numba._median5_row.
        a3, d0 = _sort2(a3, d0)
        d0, c1 = _sort2(d0, c1)
        e0, a4 = _sort2(e0, a4)
        c3, b4 = _sort2(c3, b4)
        c1, b2 = _sort2(c1, b2)
        b3, d1 = _sort2(b3, d1)
        c2, e0 = _sort2(c2, e0)
        e1, c3 = _sort2(e1, c3)
        b2, b3 = _sort2(b2, b3)
        d2, e1 = _sort2(d2, e1)
        a4, d2 = _sort2(a4, d2)
        d1, c2 = _sort2(d1, c2)
        e0, a4 = _sort2(e0, a4)
        b3, d1 = _sort2(b3, d1)
        c2, e0 = _sort2(c2, e0)
        d1, c2 = _sort2(d1, c2)
        a4, d2 = _sort2(a4, d2)
        e0, a4 = _sort2(e0, a4)
        c2, e0 = _sort2(c2, e0)
        tl.store(target + plane * size + pixel, c2, inside)


@triton.jit
def _sorted_column(at, x, y, height, width, inside):
    column = at + tl.minimum(tl.maximum(x, 0), width - 1)
    a = tl.load(column + tl.maximum(y - 2, 0) * width, inside, 0.0)
    b = tl.load(column + tl.maximum(y - 1, 0) * width, inside, 0.0)
    c = tl.load(column + y * width, inside, 0.0)
    d = tl.load(column + tl.minimum(y + 1, height - 1) * width, inside, 0.0)
    e = tl.load(column + tl.minimum(y + 2, height - 1) * width, inside, 0.0)
    return _sort5(a, b, c, d, e)


@triton.jit
def _sort2(a, b):
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _sort5(a, b, c, d, e):
    a, b = _sort2(a, b)
    d, e = _sort2(d, e)
    c, e = _sort2(c, e)
    c, d = _sort2(c, d)
    b, e = _sort2(b, e)
    a, d = _sort2(a, d)
    a, c = _sort2(a, c)
    b, d = _sort2(b, d)
    b, c = _sort2(b, c)
    return a, b, c, d, e
