"""TV-L1 on the CPU: fused float32 kernels that numba compiles when they are first used; no compiler is needed.

The same algorithm as :mod:`quovadis.flow.tvl1_reference`, arranged for caches:

* one iteration is one sweep over the rows: the dual variables of a row are updated one row behind the flow;
* several iterations run in one sweep, each one row behind the one before, so that rows are read from memory once
  for all of them (a *wave*). Whether to stop is known only after the wave, so it writes beside its input: when the
  change fell below the limit inside the wave, it is run again up to there, and the result is the same;
* pairs share nothing, so each core takes whole pairs.

All kernels stay in this one file, because numba's cache looks only at the file of the outermost function.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quovadis.flow.parameters import TVL1Parameters

Image = NDArray[np.float32]

# float32 sums may be reordered into vector lanes and products fused; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz", "arcp"}

# Planes of the state: the flow u = (u1, u2) and its dual variables p1 = (p11, p12), p2 = (p21, p22). Every plane has
# a row of zeros above and a column of zeros to the left, so that the divergence needs no special case at the border.
_U1, _U2, _P11, _P12, _P21, _P22 = range(6)
# Planes of a linearised data term: gradient of the warped picture, 1 / its squared length, constant part of rho.
_GX, _GY, _INVERSE, _CONSTANT = range(4)

_LONGEST_WAVE = 10
_MARGIN = 4  # zeros around a picture that is warped; a far index is moved into them


def _kernel(function: Any) -> Any:
    """Compile for all threads at once, and keep the machine code beside the source or in the user's cache folder."""
    try:
        return numba.njit(nogil=True, fastmath=_FAST, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder for the cache can be written: compile anew in every process
        return numba.njit(nogil=True, fastmath=_FAST, error_model="numpy")(function)


def tvl1_numba(first: Tensor, second: Tensor, parameters: TVL1Parameters, num_threads: int | None = None) -> Tensor:
    """Flow from each picture of ``first`` to its partner in ``second``; see :func:`tvl1_reference`.

    Args:
        first: uint8 (N, H, W), grey, on the CPU.
        second: like ``first``.
        parameters: see :class:`TVL1Parameters`.
        num_threads: pairs at work at a time; None takes torch's number of threads.

    Returns:
        float32 (N, 2, H, W) in pixels, x to the right and y down.

    >>> from quovadis.flow.parameters import TVL1Parameters
    >>> noise = torch.randint(0, 256, (1, 24, 32), dtype=torch.uint8)
    >>> tvl1_numba(noise, noise, TVL1Parameters()).abs().max()
    tensor(0.)
    """
    flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    pictures = first.contiguous().numpy(), second.contiguous().numpy()
    settings = _settings(parameters, first.shape[1], first.shape[2])

    def one_pair(number: int) -> None:
        _estimate(pictures[0][number], pictures[1][number], *settings, flow[number])

    num_threads = min(num_threads or torch.get_num_threads(), len(first))
    if num_threads <= 1:
        for number in range(len(first)):
            one_pair(number)
    else:
        one_pair(0)  # compiles, if need be, in one thread only
        with ThreadPoolExecutor(num_threads) as pool:
            list(pool.map(one_pair, range(1, len(first))))
    return torch.from_numpy(flow)


def _settings(parameters: TVL1Parameters, height: int, width: int) -> tuple[Any, ...]:
    """The parameters as the kernels take them: float32 where pixels are touched."""
    return (
        np.array(parameters.pyramid_sizes(height, width), np.int64),
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


@_kernel
def _estimate(
    first, second, sizes, scale_step, theta, reach, ratio, epsilon2, warps, outers, inners, median, positions, flow
):  # type: ignore[no-untyped-def]
    """One pair, all levels of the pyramid from the smallest to the full size."""
    pictures = [(first.astype(np.float32), second.astype(np.float32))]
    for level in range(1, len(sizes)):
        height, width = sizes[level]
        i0, i1 = pictures[level - 1]
        pictures.append((_resize(i0, height, width, 1 / scale_step, 1 / scale_step, np.float32(1.0)),
                         _resize(i1, height, width, 1 / scale_step, 1 / scale_step, np.float32(1.0))))  # fmt: skip
    u1 = np.zeros((sizes[-1, 0], sizes[-1, 1]), np.float32)
    u2 = np.zeros_like(u1)
    for level in range(len(sizes) - 1, -1, -1):
        i0, i1 = pictures[level]
        height, width = i0.shape
        if level < len(sizes) - 1:
            zoom = np.float32(1 / scale_step)
            u1 = _resize(u1, height, width, u1.shape[0] / height, u1.shape[1] / width, zoom)
            u2 = _resize(u2, height, width, u2.shape[0] / height, u2.shape[1] / width, zoom)
        u1, u2 = _refine(
            i0, i1, u1, u2, theta, reach, ratio, epsilon2 * height * width, warps, outers, inners, median, positions
        )
    flow[0] = u1
    flow[1] = u2


@_kernel
def _refine(
    i0, i1, u1, u2, theta, reach, ratio, threshold, warps, outers, inners, median, positions
):  # type: ignore[no-untyped-def]
    """One level: warp, linearise, iterate until the change is small; the dual variables live on through the warps."""
    height, width = i0.shape
    pitch = (width + 2 + 15) // 16 * 16
    state = np.zeros((height + 1, 6, pitch), np.float32)
    other = np.zeros((height + 1, 6, pitch), np.float32)
    data = np.zeros((height, 4, pitch), np.float32)
    state[1:, _U1, 1 : width + 1] = u1
    state[1:, _U2, 1 : width + 1] = u2
    pixels = _with_gradient(i1)
    smooth = np.empty((height, pitch), np.float32)
    ranks = np.empty((5, pitch + 4), np.float32)
    change = np.empty(_LONGEST_WAVE, np.float64)
    for _ in range(warps):
        _linearise(i0, pixels, state, data, positions)
        done = False
        for _ in range(outers):
            if median > 1:
                _median(state, _U1, width, median, ranks, smooth)
                _median(state, _U2, width, median, ranks, smooth)
            step, length = 0, 2
            while step < inners and not done:
                length = min(length, inners - step)
                _wave(state, other, data, length, width, theta, reach, ratio, change)
                for k in range(length):
                    if change[k] <= threshold:
                        if k + 1 < length:
                            _wave(state, other, data, k + 1, width, theta, reach, ratio, change)
                        done = True
                        break
                state, other = other, state
                step += length
                if not done:
                    length = _next_length(change, length, threshold)
            if done:
                break
    return state[1:, _U1, 1 : width + 1].copy(), state[1:, _U2, 1 : width + 1].copy()


@_kernel
def _next_length(change, length, threshold):  # type: ignore[no-untyped-def]
    """Iterations for the next wave: as many as the change, falling as it last did, stays above the threshold."""
    if length == 1:
        return 2
    now, before = change[length - 1], change[length - 2]
    if now >= before or threshold <= 0.0:
        return _LONGEST_WAVE
    return max(1, min(_LONGEST_WAVE, int(math.log(threshold / now) / math.log(now / before))))


@_kernel
def _wave(source, target, data, length, width, theta, reach, ratio, change):  # type: ignore[no-untyped-def]
    """``length`` iterations from ``source`` to ``target``; ``change[k]`` is the squared change of the k-th."""
    height = data.shape[0]
    change[:length] = 0.0
    for front in range(height + length):
        for k in range(length):
            y = front - k  # each iteration is one row behind the one before
            if y < 0 or y > height:
                continue
            before = source if k == 0 else target
            if y < height:
                change[k] += _flow_row(before[y], before[y + 1], target[y + 1], data[y], width, theta, reach)
            if y > 0:
                below = target[min(y + 1, height)]  # under the last row: itself, so that its gradient is 0
                _dual_row(before[y], target[y], below, width, ratio)


@_kernel
def _flow_row(above, before, after, data, width, theta, reach):  # type: ignore[no-untyped-def]
    """Eq. 13 and 14 on one row: the thresholding step and the divergence of p; returns the squared change."""
    u1, u2, new1, new2 = before[_U1], before[_U2], after[_U1], after[_U2]
    p11, p12, p21, p22 = before[_P11], before[_P12], before[_P21], before[_P22]
    above12, above22 = above[_P12], above[_P22]
    gx, gy, inverse, constant = data[_GX], data[_GY], data[_INVERSE], data[_CONSTANT]
    change = np.float32(0.0)
    for x in range(1, width + 1):
        rho = constant[x] + (gx[x] * u1[x] + gy[x] * u2[x])
        factor = -rho * inverse[x]  # the three cases of eq. 13 are one clamp
        factor = factor if factor < reach else reach
        factor = factor if factor > -reach else -reach
        step1 = factor * gx[x] + theta * (p11[x] - p11[x - 1] + (p12[x] - above12[x]))
        step2 = factor * gy[x] + theta * (p21[x] - p21[x - 1] + (p22[x] - above22[x]))
        new1[x] = u1[x] + step1
        new2[x] = u2[x] + step2
        change += step1 * step1 + step2 * step2
    new1[width + 1] = new1[width]  # so that the gradient to the right is 0 at the border
    new2[width + 1] = new2[width]
    return np.float64(change)


@_kernel
def _dual_row(before, after, below, width, ratio):  # type: ignore[no-untyped-def]
    """Eq. 15 on one row: the dual variables follow the gradient of the new flow."""
    u1, u2, below1, below2 = after[_U1], after[_U2], below[_U1], below[_U2]
    p11, p12, p21, p22 = before[_P11], before[_P12], before[_P21], before[_P22]
    new11, new12, new21, new22 = after[_P11], after[_P12], after[_P21], after[_P22]
    one = np.float32(1.0)
    for x in range(1, width + 1):
        x1, y1 = ratio * (u1[x + 1] - u1[x]), ratio * (below1[x] - u1[x])
        x2, y2 = ratio * (u2[x + 1] - u2[x]), ratio * (below2[x] - u2[x])
        norm1, norm2 = one + math.sqrt(x1 * x1 + y1 * y1), one + math.sqrt(x2 * x2 + y2 * y2)
        both = one / (norm1 * norm2)  # one division for the two
        scale1, scale2 = both * norm2, both * norm1
        new11[x] = (p11[x] + x1) * scale1
        new12[x] = (p12[x] + y1) * scale1
        new21[x] = (p21[x] + x2) * scale2
        new22[x] = (p22[x] + y2) * scale2


@_kernel
def _with_gradient(image):  # type: ignore[no-untyped-def]
    """(H, W) to (H + 8, W + 8, 4): the picture, its centred differences in x and y, and nothing; zeros around."""
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
def _linearise(i0, pixels, state, data, positions):  # type: ignore[no-untyped-def]
    """Warp the second picture and its gradient by the flow (cubic, zeros outside) and prepare the data term."""
    height, width = i0.shape
    tiny = np.float32(np.finfo(np.float32).eps)
    for y in range(height):
        for x in range(width):
            u1, u2 = state[y + 1, _U1, x + 1], state[y + 1, _U2, x + 1]
            across, down = np.float32(x) + u1, np.float32(y) + u2
            if positions > 0:
                across = np.rint(across * positions) / positions
                down = np.rint(down * positions) / positions
            left, top = math.floor(across), math.floor(down)
            wx0, wx1, wx2, wx3 = _cubic_weights(np.float32(across - left))
            wy0, wy1, wy2, wy3 = _cubic_weights(np.float32(down - top))
            column = int(min(max(left, -3), width + 1)) + _MARGIN - 1
            row = int(min(max(top, -3), height + 1)) + _MARGIN - 1
            value = gx = gy = np.float32(0.0)
            for wy, line in ((wy0, row), (wy1, row + 1), (wy2, row + 2), (wy3, row + 3)):
                for wx, place in ((wx0, column), (wx1, column + 1), (wx2, column + 2), (wx3, column + 3)):
                    weight = wy * wx
                    value += weight * pixels[line, place, 0]
                    gx += weight * pixels[line, place, 1]
                    gy += weight * pixels[line, place, 2]
            norm = gx * gx + gy * gy
            data[y, _GX, x + 1] = gx
            data[y, _GY, x + 1] = gy
            data[y, _INVERSE, x + 1] = np.float32(1.0) / norm if norm > tiny else np.float32(0.0)
            data[y, _CONSTANT, x + 1] = value - gx * u1 - gy * u2 - i0[y, x]


@_kernel
def _cubic_weights(t):  # type: ignore[no-untyped-def]
    """Weights of the pixels at -1, 0, 1, 2 for a position t in [0, 1) (Keys 1981, with a = -3/4)."""
    a, one, s = np.float32(-0.75), np.float32(1.0), np.float32(1.0) - t
    before = ((a * (t + one) - 5 * a) * (t + one) + 8 * a) * (t + one) - 4 * a
    here = ((a + 2) * t - (a + 3)) * t * t + one
    after = ((a + 2) * s - (a + 3)) * s * s + one
    return before, here, after, one - before - here - after


@_kernel
def _resize(image, height, width, step_y, step_x, gain):  # type: ignore[no-untyped-def]
    """Bilinear, pixel centres ``step`` source pixels apart, the border repeated, times ``gain``."""
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
def _median(state, plane, width, size, ranks, smooth):  # type: ignore[no-untyped-def]
    """Median filter of one plane of the flow, in place; the border pixels are repeated outwards."""
    height = state.shape[0] - 1
    for y in range(height):
        _sort_columns(state, plane, y, width, size, ranks)
        if size == 5:
            _median5_row(ranks, smooth[y], width)
        else:
            _median3_row(ranks, smooth[y], width)
    for y in range(height):
        state[y + 1, plane, 1 : width + 1] = smooth[y, :width]


@_kernel
def _sort_columns(state, plane, y, width, size, ranks):  # type: ignore[no-untyped-def]
    """The columns of the windows around row ``y``, each sorted: shared by all the windows that hold the column."""
    height = state.shape[0] - 1
    up, here, down = state[max(y, 1), plane], state[y + 1, plane], state[min(y + 2, height), plane]
    if size == 5:
        up2, down2 = state[max(y - 1, 1), plane], state[min(y + 3, height), plane]
        for x in range(width):
            a, b, c, d, e = _sort5(up2[x + 1], up[x + 1], here[x + 1], down[x + 1], down2[x + 1])
            ranks[0, x + 2], ranks[1, x + 2], ranks[2, x + 2], ranks[3, x + 2], ranks[4, x + 2] = a, b, c, d, e
    else:
        for x in range(width):
            a, b = _sort2(up[x + 1], here[x + 1])
            b, c = _sort2(b, down[x + 1])
            a, b = _sort2(a, b)
            ranks[0, x + 2], ranks[1, x + 2], ranks[2, x + 2] = a, b, c
    for r in range(size):
        ranks[r, 0] = ranks[r, 1] = ranks[r, 2]
        ranks[r, width + 2] = ranks[r, width + 3] = ranks[r, width + 1]


@_kernel
def _sort2(a, b):  # type: ignore[no-untyped-def]
    return (a if a < b else b), (b if a < b else a)


@_kernel
def _sort5(a, b, c, d, e):  # type: ignore[no-untyped-def]
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
def _median5_row(ranks, out, width):  # type: ignore[no-untyped-def]
    """Median of 25 from five sorted columns: sort the rows, then 13 values are left of which it is the middle one."""
    r0, r1, r2, r3, r4 = ranks[0], ranks[1], ranks[2], ranks[3], ranks[4]
    for x in range(width):
        _, _, _, a3, a4 = _sort5(r0[x], r0[x + 1], r0[x + 2], r0[x + 3], r0[x + 4])
        _, _, b2, b3, b4 = _sort5(r1[x], r1[x + 1], r1[x + 2], r1[x + 3], r1[x + 4])
        _, c1, c2, c3, _ = _sort5(r2[x], r2[x + 1], r2[x + 2], r2[x + 3], r2[x + 4])
        d0, d1, d2, _, _ = _sort5(r3[x], r3[x + 1], r3[x + 2], r3[x + 3], r3[x + 4])
        e0, e1, _, _, _ = _sort5(r4[x], r4[x + 1], r4[x + 2], r4[x + 3], r4[x + 4])
        # Found by pruning a sorting network until, by the 0-1 principle over all 6**5 column states, no more can go.
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
def _median3_row(ranks, out, width):  # type: ignore[no-untyped-def]
    """Median of 9 from three sorted columns: of the largest minimum, the middle median and the smallest maximum."""
    r0, r1, r2 = ranks[0], ranks[1], ranks[2]
    for x in range(width):
        low = max(max(r0[x + 1], r0[x + 2]), r0[x + 3])
        b, c = _sort2(r1[x + 1], r1[x + 2])
        middle = max(b, min(c, r1[x + 3]))
        high = min(min(r2[x + 1], r2[x + 2]), r2[x + 3])
        low, middle = _sort2(low, middle)
        out[x] = max(low, min(middle, high))
