"""TV-L1 on the CPU: fused float32 kernels, compiled by numba on first use.

The algorithm is that of :mod:`quovadis.flow.tvl1_reference`, arranged for the CPU cache:

* One iteration is one sweep over the rows. The dual variables of a row are updated one row behind the flow.
* A *wave* runs several iterations in one sweep, each one row behind the previous one, so each row is read from memory
  once per wave. The stopping rule can be checked only after the wave, so a wave does not overwrite its input: if an
  earlier iteration met the rule, the wave is run again up to that iteration. The result is the same.
* Frame pairs are independent, and each thread processes whole pairs.

The first call compiles for about 20 seconds. The machine code is cached; later processes load it in half a second. All
kernels must be in this file, because numba's cache checks only the file of the outermost function for changes.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from quovadis.flow.parameters import TVL1Parameters
from quovadis.runtime import interrupts

# Fast-math flags: products may be fused with sums. Only sums over a row may also be reordered, for vectorization. NaN
# and infinity are never assumed to be absent.
_FUSED = {"contract"}
_REORDERED = {"contract", "reassoc", "nsz"}

# A row of the image is stored as chunks of planes at constant distances, indexed with unsigned integers. Otherwise LLVM
# would not vectorize the fused loop, because it would have to check at run time whether planes overlap. The column
# before a chunk has p of the left neighbor (0 at the border), the column after it u of the right one (or the last u).
_LEAD = np.uint64(8)
_ONE = np.uint64(1)
_CHUNK = 352
_PLANE = _CHUNK + 16
# The flow u = (u1, u2) and its dual variables p1 = (p11, p12), p2 = (p21, p22).
_U1, _U2, _P11, _P12, _P21, _P22 = (np.uint64(plane * _PLANE) for plane in range(6))
_STATE = 6 * _PLANE
# The linearized data term: gradient of the warped image, 1 / its squared length, constant part of rho.
_GX, _GY, _INVERSE, _CONSTANT, _THETA = (np.uint64(plane * _PLANE) for plane in range(5))
_DATA = 5 * _PLANE

_LONGEST_WAVE = 15
_MARGIN = 4  # zeros around a warped image; indices outside of the image are clamped into them


class _Settings(NamedTuple):
    """TV-L1 parameters in the types of the kernels: float32 for arithmetic on pixels."""

    scale_step: float
    theta: np.float32
    reach: np.float32
    """Largest step of the data term, lambda * theta."""
    ratio: np.float32
    """Step of the dual variables, tau / theta."""
    squared_stop_change: float
    num_warps: int
    num_outer_iterations: int
    num_inner_iterations: int
    median_size_px: int
    positions_per_px: np.float32

    @classmethod
    def of(cls, parameters: TVL1Parameters) -> "_Settings":
        return cls(
            parameters.scale_step,
            np.float32(parameters.tightness),
            np.float32(parameters.attachment * parameters.tightness),
            np.float32(parameters.time_step / parameters.tightness),
            parameters.stop_change_px**2,
            parameters.num_warps,
            parameters.num_outer_iterations,
            parameters.num_inner_iterations,
            parameters.median_size_px,
            np.float32(parameters.positions_per_px),
        )


def _kernel(function: Any, fastmath: set[str] = _FUSED) -> Any:
    """Compile to release the GIL, and cache the machine code next to the source or in the user's cache folder."""
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither folder is writable: compile in every process
        return numba.njit(**options)(function)


def tvl1_numba(first: Tensor, second: Tensor, parameters: TVL1Parameters, num_threads: int | None = None) -> Tensor:
    """Compute the flow from each image of ``first`` to the one of ``second``; see :func:`tvl1_reference`.

    Args:
        first: uint8 tensor (N, H, W), grayscale, on the CPU.
        second: Like ``first``.
        parameters: Parameters of TV-L1.
        num_threads: Number of pairs processed in parallel; None uses torch's number of threads.

    Returns:
        float32 tensor (N, 2, H, W) in pixels; channel 0 points right, channel 1 down.

    Example:
        >>> from quovadis.flow.parameters import TVL1Parameters
        >>> noise = torch.randint(0, 256, (1, 24, 32), dtype=torch.uint8)
        >>> tvl1_numba(noise, noise, TVL1Parameters()).abs().max()
        tensor(0.)
    """
    flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    images = first.contiguous().numpy(), second.contiguous().numpy()
    sizes = np.array(parameters.pyramid_sizes(first.shape[1], first.shape[2]), np.int64)
    settings = _Settings.of(parameters)

    def one_pair(number: int) -> None:
        interrupts.check()
        _estimate(images[0][number], images[1][number], sizes, settings, flow[number])

    num_threads = min(num_threads or torch.get_num_threads(), len(first))
    if num_threads <= 1:
        for number in range(len(first)):
            one_pair(number)
    else:
        one_pair(0)  # compile in a single thread
        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(one_pair, range(1, len(first))))
    return torch.from_numpy(flow)


@_kernel
def _estimate(first, second, sizes, settings, flow):
    """Compute the flow of one pair into ``flow``, from the smallest level of the pyramid to the full size."""
    zoom, one = 1 / settings.scale_step, np.float32(1.0)
    images = [(first.astype(np.float32), second.astype(np.float32))]
    for level in range(1, len(sizes)):
        height, width = sizes[level]
        i0, i1 = images[level - 1]
        images.append((_resize(i0, height, width, zoom, zoom, one), _resize(i1, height, width, zoom, zoom, one)))
    rows, chunks = sizes[0, 0] + 2, (sizes[0, 1] + _CHUNK - 1) // _CHUNK
    memory = np.empty(rows * chunks * (2 * _STATE + _DATA), np.float32)
    u1 = np.zeros((sizes[-1, 0], sizes[-1, 1]), np.float32)
    u2 = np.zeros_like(u1)
    for level in range(len(sizes) - 1, -1, -1):
        i0, i1 = images[level]
        height, width = i0.shape
        if level < len(sizes) - 1:
            step_y, step_x = u1.shape[0] / height, u1.shape[1] / width
            u1 = _resize(u1, height, width, step_y, step_x, np.float32(zoom))
            u2 = _resize(u2, height, width, step_y, step_x, np.float32(zoom))
        u1, u2 = _refine(i0, i1, u1, u2, memory, settings)
    flow[0] = u1
    flow[1] = u2


@_kernel
def _refine(i0, i1, u1, u2, memory, settings):
    """Refine the flow on one level: warp, linearize, iterate until the change is small. Warps share the dual variables.

    ``memory`` is scratch space that all levels share.
    """
    height, width = i0.shape
    threshold = settings.squared_stop_change * height * width
    state, other, data = _planes(height, width, memory, settings.theta)
    pixels = _with_gradient(i1)
    ranks = np.empty((5, width + 4), np.float32)
    change = np.empty(_LONGEST_WAVE, np.float64)
    for _ in range(settings.num_warps):
        _linearize(i0, pixels, u1, u2, data, settings.positions_per_px)
        before = now = np.inf
        for _ in range(settings.num_outer_iterations):
            if settings.median_size_px > 1:
                u1, u2 = _median(u1, settings.median_size_px, ranks), _median(u2, settings.median_size_px, ranks)
            _write_flow(u1, u2, state)
            step = 0
            while step < settings.num_inner_iterations and now > threshold:
                length = min(_wave_length(before, now, threshold), settings.num_inner_iterations - step)
                if length == 1:
                    _wave(state, state, data, 1, width, settings, change)
                else:
                    _wave(state, other, data, length, width, settings, change)
                    for k in range(length - 1):
                        if change[k] <= threshold:  # the rule was met earlier: run again, up to that iteration
                            length = k + 1
                            _wave(state, other, data, length, width, settings, change)
                            break
                    state, other = other, state
                before, now = (change[length - 2] if length > 1 else now), change[length - 1]
                step += length
            _read_flow(state, u1, u2)
            if now <= threshold:
                break
    return u1, u2


@_kernel
def _planes(height, width, memory, theta):
    """Return two states and the data term of a level, zeroed. Row 0 is above the image, the last row below it."""
    chunks = (width + _CHUNK - 1) // _CHUNK
    size = (height + 2) * chunks * _STATE
    memory[: 2 * size + (height + 1) * chunks * _DATA] = 0.0
    state = memory[:size].reshape((height + 2, chunks, _STATE))
    other = memory[size : 2 * size].reshape((height + 2, chunks, _STATE))
    data = memory[2 * size : 2 * size + (height + 1) * chunks * _DATA].reshape((height + 1, chunks, _DATA))
    first = int(_THETA) + int(_LEAD)
    for c in range(chunks):
        columns = min(_CHUNK, width - c * _CHUNK)
        data[:, c, first : first + columns] = theta
    return state, other, data


@_kernel
def _wave_length(before, now, threshold):
    """Choose the length of the next wave: half of the iterations that remain if the change keeps falling at its rate.

    Only half, because it often falls faster later, and a wave that is too long costs more than one that is too short.
    Waves of two or three iterations are not worth the copy of the state, which is needed to run them again.
    """
    if now > 30 * threshold and before < np.inf:
        return _LONGEST_WAVE
    if now >= before or before == np.inf:
        return 1
    steps = 0.5 * math.log(threshold / now) / math.log(now / before)
    return int(min(steps, _LONGEST_WAVE)) if steps >= 4.0 else 1


@_kernel
def _wave(source, target, data, length, width, settings, change):
    """Run ``length`` iterations from ``source`` to ``target``; store the squared change of each in ``change``."""
    height, chunks = data.shape[0] - 1, data.shape[1]
    change[:length] = 0.0
    target[0] = 0.0
    for front in range(height + length):
        if front < height and length > 1:
            target[front + 1] = source[front + 1]
        for k in range(max(0, front - height), min(length, front + 1)):
            y = front - k  # each iteration is one row behind the previous one
            if y == height:  # below the image: repeat its last row, so that the vertical gradient is 0
                target[y + 1, :, : 2 * _PLANE] = target[y, :, : 2 * _PLANE]
            for c in range(chunks):
                columns = min(_CHUNK, width - c * _CHUNK)
                change[k] += _step(target[y, c], target[y + 1, c], data[y, c], columns, settings.reach, settings.ratio)
                if chunks > 1:
                    _copy_borders(target[y], target[y + 1], c, np.uint64(columns))
            if y == 0:  # keep the row above the image at 0
                target[0] = 0.0


@_kernel
def _copy_borders(above, here, c, columns):
    """Copy the border columns of chunk ``c`` to its neighbors after a step."""
    last, edge = _LEAD + columns - _ONE, _LEAD + np.uint64(_CHUNK)
    if c > 0:
        here[c - 1, _U1 + edge] = here[c, _U1 + _LEAD]
        here[c - 1, _U2 + edge] = here[c, _U2 + _LEAD]
    if c + 1 < len(here):
        above[c + 1, _P11 + _LEAD - _ONE] = above[c, _P11 + last]
        above[c + 1, _P21 + _LEAD - _ONE] = above[c, _P21 + last]


@partial(_kernel, fastmath=_REORDERED)
def _step(above, here, data, columns, reach, ratio):
    """Run one iteration on a chunk: update the flow of row ``here`` and the dual variables of the row ``above``.

    Eq. 13 (whose three cases are one clamp), eq. 14 and eq. 15. Returns the squared change.
    """
    change, one = np.float32(0.0), np.float32(1.0)
    # Whole vectors of 8: theta is 0 after the last column, so the flow does not change there.
    for x in range(_LEAD, _LEAD + np.uint64((columns + 7) // 8 * 8)):
        u1, u2, gx, gy = here[_U1 + x], here[_U2 + x], data[_GX + x], data[_GY + x]
        factor = -(data[_CONSTANT + x] + (gx * u1 + gy * u2)) * data[_INVERSE + x]
        factor = factor if factor < reach else reach
        factor = factor if factor > -reach else -reach
        p12, p22, theta = above[_P12 + x], above[_P22 + x], data[_THETA + x]
        step1 = factor * gx + theta * (here[_P11 + x] - here[_P11 + x - _ONE] + (here[_P12 + x] - p12))
        step2 = factor * gy + theta * (here[_P21 + x] - here[_P21 + x - _ONE] + (here[_P22 + x] - p22))
        u1, u2 = u1 + step1, u2 + step2
        here[_U1 + x], here[_U2 + x] = u1, u2
        change += step1 * step1 + step2 * step2

        above1, above2 = above[_U1 + x], above[_U2 + x]
        x1, y1 = ratio * (above[_U1 + x + _ONE] - above1), ratio * (u1 - above1)
        x2, y2 = ratio * (above[_U2 + x + _ONE] - above2), ratio * (u2 - above2)
        norm1, norm2 = one + math.sqrt(x1 * x1 + y1 * y1), one + math.sqrt(x2 * x2 + y2 * y2)
        both = one / (norm1 * norm2)  # one division instead of two
        scale1, scale2 = both * norm2, both * norm1
        above[_P11 + x], above[_P12 + x] = (above[_P11 + x] + x1) * scale1, (p12 + y1) * scale1
        above[_P21 + x], above[_P22 + x] = (above[_P21 + x] + x2) * scale2, (p22 + y2) * scale2
    end = _LEAD + np.uint64(columns)  # repeat the last u, so that the horizontal gradient is 0 at the border
    here[_U1 + end], here[_U2 + end] = here[_U1 + end - _ONE], here[_U2 + end - _ONE]
    return np.float64(change)


@_kernel
def _write_flow(u1, u2, state):
    """Write the flow into the chunks of the state, with the columns that chunks share."""
    height, width = u1.shape
    chunks = state.shape[1]
    for y in range(height):
        for c in range(chunks):
            start, stop = c * _CHUNK, min((c + 1) * _CHUNK, width)
            for plane, u in ((_U1, u1), (_U2, u2)):
                first = int(plane) + int(_LEAD)
                row = state[y + 1, c]
                row[first : first + stop - start] = u[y, start:stop]
                row[first + stop - start] = u[y, min(stop, width - 1)]


@_kernel
def _read_flow(state, u1, u2):
    """Read the flow from the chunks of the state."""
    height, width = u1.shape
    for y in range(height):
        for c in range(state.shape[1]):
            start, stop = c * _CHUNK, min((c + 1) * _CHUNK, width)
            for plane, u in ((_U1, u1), (_U2, u2)):
                first = int(plane) + int(_LEAD)
                u[y, start:stop] = state[y + 1, c, first : first + stop - start]


@_kernel
def _with_gradient(image):
    """Return (H + 8, W + 8, 4): the image, its centered differences in x and y, and 0; with a margin of zeros."""
    height, width = image.shape
    out = np.zeros((height + 2 * _MARGIN, width + 2 * _MARGIN, 4), np.float32)
    half = np.float32(0.5)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            pixel = out[y + _MARGIN, x + _MARGIN]
            pixel[0] = image[y, x]
            pixel[1] = half * (image[y, right] - image[y, left])
            pixel[2] = half * (image[down, x] - image[up, x])
    return out


@_kernel
def _linearize(i0, pixels, u1, u2, data, positions):
    """Warp the second image and its gradient by the flow (cubic, zeros outside) and compute the data term."""
    height, width = i0.shape
    pitch = np.uint64(4 * pixels.shape[1])
    flat = pixels.ravel()
    weights_x, weights_y = np.empty((4, width), np.float32), np.empty((4, width), np.float32)
    columns, rows = np.empty(width, np.int32), np.empty(width, np.int32)
    warped = np.empty((3, width), np.float32)
    for y in range(height):
        _locate(np.float32(0), np.float32(1), u1[y], width, positions, columns, weights_x)
        _locate(np.float32(y), np.float32(0), u2[y], height, positions, rows, weights_y)
        _sample(flat, pitch, columns, rows, weights_x, weights_y, warped)
        for c in range(data.shape[1]):
            start, stop = c * _CHUNK, min((c + 1) * _CHUNK, width)
            _data_term(i0[y], u1[y], u2[y], warped, start, stop, data[y, c])


@_kernel
def _locate(start, step, u, length, positions, first, weights):
    """Find, along one axis, the first of the four pixels around each warped position, and their weights."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    low, high = np.float32(-3), np.float32(length + 1)
    if positions > 0:
        inverse = np.float32(1.0) / positions
        for x in range(len(u)):
            position = np.rint((start + step * np.float32(x) + u[x]) * positions) * inverse
            whole = np.floor(position)
            w0[x], w1[x], w2[x], w3[x] = _cubic_weights(position - whole)
            first[x] = np.int32(min(max(whole, low), high)) + (_MARGIN - 1)
    else:
        for x in range(len(u)):
            position = start + step * np.float32(x) + u[x]
            whole = np.floor(position)
            w0[x], w1[x], w2[x], w3[x] = _cubic_weights(position - whole)
            first[x] = np.int32(min(max(whole, low), high)) + (_MARGIN - 1)


@_kernel
def _cubic_weights(t):
    """Return the weights of pixels -1, 0, 1, 2 for a position t in [0, 1) (Keys 1981, with a = -3/4)."""
    a, one, s = np.float32(-0.75), np.float32(1.0), np.float32(1.0) - t
    a2, a3, a4, a5, a8 = a + np.float32(2), a + np.float32(3), a * np.float32(4), a * np.float32(5), a * np.float32(8)
    before = ((a * (t + one) - a5) * (t + one) + a8) * (t + one) - a4
    here = (a2 * t - a3) * t * t + one
    after = (a2 * s - a3) * s * s + one
    return before, here, after, one - before - here - after


@_kernel
def _sample(flat, pitch, columns, rows, weights_x, weights_y, warped):
    """Interpolate the image and its gradient from 4x4 pixels at each position of a row."""
    x0, x1, x2, x3 = weights_x[0], weights_x[1], weights_x[2], weights_x[3]
    y0, y1, y2, y3 = weights_y[0], weights_y[1], weights_y[2], weights_y[3]
    value, gx, gy = warped[0], warped[1], warped[2]
    for x in range(len(columns)):
        place = np.uint64(rows[x]) * pitch + np.uint64(4 * columns[x])
        across, down = (x0[x], x1[x], x2[x], x3[x]), (y0[x], y1[x], y2[x], y3[x])
        value[x], gx[x], gy[x] = _weighted_patch(flat, place, pitch, across, down)


@intrinsic
def _weighted_patch(typingctx, flat, place, pitch, across, down):
    """Sum 4x4 pixels times their weights, with the channels of a pixel in one (portable) LLVM vector.

    LLVM does not vectorize this sum on its own, because numba disables the pass that could. It is the most expensive
    part of a warp.
    """
    four, index32 = ir.VectorType(ir.FloatType(), 4), ir.IntType(32)

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        start, undefined = arguments[1], ir.Constant(four, ir.Undefined)

        def spread(weights, number):
            one = builder.insert_element(undefined, builder.extract_value(weights, number), index32(0))
            return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(index32, 4), [0] * 4))

        def weighted(total, vector, weight):
            product = builder.fmul(vector, weight, flags=("contract",))
            return product if total is None else builder.fadd(total, product, flags=("contract",))

        columns = [spread(arguments[3], number) for number in range(4)]
        total = None
        for j in range(4):
            line = None
            for i in range(4):
                pixel = builder.gep(data, [builder.add(start, ir.Constant(start.type, 4 * i))])
                line = weighted(line, builder.load(builder.bitcast(pixel, four.as_pointer()), align=4), columns[i])
            total = weighted(total, line, spread(arguments[4], j))
            start = builder.add(start, arguments[2])
        return context.make_tuple(
            builder, signature.return_type, [builder.extract_element(total, index32(k)) for k in range(3)]
        )

    return types.UniTuple(types.float32, 3)(flat, place, pitch, across, down), generate


@_kernel
def _data_term(i0, u1, u2, warped, start, stop, data):
    """Compute 1 / |gradient|^2 and the constant part of rho (eq. 12) for one chunk of a row."""
    tiny, one, zero = np.float32(np.finfo(np.float32).eps), np.float32(1.0), np.float32(0.0)
    i0, u1, u2 = i0[start:stop], u1[start:stop], u2[start:stop]
    value, gx, gy = warped[0, start:stop], warped[1, start:stop], warped[2, start:stop]
    for i in range(np.uint64(stop - start)):
        x = _LEAD + i
        norm = gx[i] * gx[i] + gy[i] * gy[i]
        data[_GX + x] = gx[i]
        data[_GY + x] = gy[i]
        data[_INVERSE + x] = one / norm if norm > tiny else zero
        data[_CONSTANT + x] = value[i] - gx[i] * u1[i] - gy[i] * u2[i] - i0[i]


@_kernel
def _resize(image, height, width, step_y, step_x, gain):
    """Resize bilinearly with pixel centers ``step`` source pixels apart and repeated borders; multiply by ``gain``."""
    rows, columns = image.shape
    left = np.empty(width, np.int64)
    weight = np.empty(width, np.float32)
    for x in range(width):
        position = min(max((x + 0.5) * step_x - 0.5, 0.0), columns - 1.0)
        left[x] = min(int(position), columns - 2)
        weight[x] = position - left[x]
    out = np.empty((height, width), np.float32)
    for y in range(height):
        position = min(max((y + 0.5) * step_y - 0.5, 0.0), rows - 1.0)
        top = min(int(position), rows - 2)
        low = np.float32(position - top)
        for x in range(width):
            k, w = left[x], weight[x]
            upper = image[top, k] + w * (image[top, k + 1] - image[top, k])
            lower = image[top + 1, k] + w * (image[top + 1, k + 1] - image[top + 1, k])
            out[y, x] = gain * (upper + low * (lower - upper))
    return out


@_kernel
def _median(u, size, ranks):
    """Apply a median filter to a plane, with repeated border pixels."""
    out = np.empty_like(u)
    for y in range(u.shape[0]):
        _sort_columns(u, y, size, ranks)
        if size == 5:
            _median5_row(ranks, out[y])
        else:
            _median3_row(ranks, out[y])
    return out


@_kernel
def _sort_columns(u, y, size, ranks):
    """Sort each column of the windows around row ``y``; all windows with a column share the result."""
    height, width = u.shape
    up, here, down = u[max(y - 1, 0)], u[y], u[min(y + 1, height - 1)]
    r0, r1, r2, r3, r4 = ranks[0, 2:], ranks[1, 2:], ranks[2, 2:], ranks[3, 2:], ranks[4, 2:]
    if size == 5:
        up2, down2 = u[max(y - 2, 0)], u[min(y + 2, height - 1)]
        for x in range(width):
            r0[x], r1[x], r2[x], r3[x], r4[x] = _sort5(up2[x], up[x], here[x], down[x], down2[x])
    else:
        for x in range(width):
            a, b = _sort2(up[x], here[x])
            b, c = _sort2(b, down[x])
            a, b = _sort2(a, b)
            r0[x], r1[x], r2[x] = a, b, c
    for r in range(size):
        ranks[r, 0] = ranks[r, 1] = ranks[r, 2]
        ranks[r, width + 2] = ranks[r, width + 3] = ranks[r, width + 1]


@_kernel
def _sort2(a, b):
    return (a if a < b else b), (b if a < b else a)


@_kernel
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


@_kernel
def _median5_row(ranks, out):
    """Compute medians of 25 from five sorted columns: sorting the rows leaves 13 candidates for each."""
    r0, r1, r2, r3, r4 = ranks[0], ranks[1], ranks[2], ranks[3], ranks[4]
    for x in range(len(out)):
        _, _, _, a3, a4 = _sort5(r0[x], r0[x + 1], r0[x + 2], r0[x + 3], r0[x + 4])
        _, _, b2, b3, b4 = _sort5(r1[x], r1[x + 1], r1[x + 2], r1[x + 3], r1[x + 4])
        _, c1, c2, c3, _ = _sort5(r2[x], r2[x + 1], r2[x + 2], r2[x + 3], r2[x + 4])
        d0, d1, d2, _, _ = _sort5(r3[x], r3[x + 1], r3[x + 2], r3[x + 3], r3[x + 4])
        e0, e1, _, _, _ = _sort5(r4[x], r4[x + 1], r4[x + 2], r4[x + 3], r4[x + 4])
        # A sorting network, pruned as far as the 0-1 principle allows over all 6**5 states of the columns.
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
        out[x] = c2


@_kernel
def _median3_row(ranks, out):
    """Compute medians of 9 from three sorted columns: median of largest minimum, middle median, smallest maximum."""
    r0, r1, r2 = ranks[0], ranks[1], ranks[2]
    for x in range(len(out)):
        low = max(max(r0[x + 1], r0[x + 2]), r0[x + 3])
        b, c = _sort2(r1[x + 1], r1[x + 2])
        middle = max(b, min(c, r1[x + 3]))
        high = min(min(r2[x + 1], r2[x + 2]), r2[x + 3])
        low, middle = _sort2(low, middle)
        out[x] = max(low, min(middle, high))
