"""Reference implementation of TV-L1 in plain torch, for any device. The fast kernels are tested against it.

The algorithm is that of OpenCV's ``DualTVL1OpticalFlow``. Functions work on a batch (N, H, W) of pairs; each pair has
its own stopping rule. Equation numbers refer to the IPOL article.

References:
    C. Zach, T. Pock, H. Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007.
    J. Sánchez Pérez, E. Meinhardt-Llopis, G. Facciolo, "TV-L1 Optical Flow Estimation", IPOL 2013 (pyramid, warps and
    stopping rule).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.flow.parameters import TVL1Parameters


def tvl1_reference(first: Tensor, second: Tensor, parameters: TVL1Parameters) -> Tensor:
    """Compute the flow from each image of ``first`` to the one of ``second``.

    Args:
        first: uint8 tensor (N, H, W), grayscale.
        second: Like ``first``, on the same device.
        parameters: Parameters of TV-L1.

    Returns:
        float32 tensor (N, 2, H, W) in pixels; channel 0 points right, channel 1 down: ``second(x + u) = first(x)``.

    Example:
        >>> from quovadis.flow.parameters import TVL1Parameters
        >>> noise = torch.randint(0, 256, (1, 24, 32), dtype=torch.uint8)
        >>> tvl1_reference(noise, noise, TVL1Parameters()).abs().max()
        tensor(0.)
    """
    levels = [(first.float(), second.float())]
    for size in parameters.pyramid_sizes(first.shape[1], first.shape[2])[1:]:
        scale = 1 / parameters.scale_step
        levels.append((resize(levels[-1][0], size, scale, scale), resize(levels[-1][1], size, scale, scale)))
    flow = torch.zeros(len(first), 2, *levels[-1][0].shape[1:], device=first.device)
    for number, (i0, i1) in reversed(list(enumerate(levels))):
        flow = _refine(i0, i1, flow, parameters)
        if number:
            size = (levels[number - 1][0].shape[1], levels[number - 1][0].shape[2])
            steps = flow.shape[2] / size[0], flow.shape[3] / size[1]
            flow = resize(flow.flatten(0, 1), size, *steps).unflatten(0, (-1, 2)) * (1 / parameters.scale_step)
    return flow


def _refine(i0: Tensor, i1: Tensor, flow: Tensor, parameters: TVL1Parameters) -> Tensor:
    """Refine the flow on one level: warp, linearize, iterate. Warps share the dual variables."""
    threshold = parameters.stop_change_px**2 * i0[0].numel()
    gradient = centered_gradient(i1)
    dual = flow.new_zeros(len(flow), 2, 2, *flow.shape[2:])  # pair, component of u, direction of its gradient
    for _ in range(parameters.num_warps):
        warped, warped_x, warped_y = (
            warp(image, flow, parameters.positions_per_px) for image in (i1, gradient[:, 0], gradient[:, 1])
        )
        slope = torch.stack([warped_x, warped_y], 1)
        constant = warped - (slope * flow).sum(1) - i0  # rho(u) = constant + slope . u, eq. 12
        running = torch.arange(len(flow), device=flow.device)
        for _ in range(parameters.num_outer_iterations):
            flow[running] = median_filter(flow[running], parameters.median_size_px)
            for _ in range(parameters.num_inner_iterations):
                u, p, change = _step(flow[running], dual[running], slope[running], constant[running], parameters)
                flow[running], dual[running] = u, p
                running = running[change > threshold]
                if len(running) == 0:
                    break
            if len(running) == 0:
                break
    return flow


def _step(
    u: Tensor, p: Tensor, slope: Tensor, constant: Tensor, parameters: TVL1Parameters
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one primal-dual iteration; also return the summed squared change of u, for the stopping rule."""
    reach = parameters.attachment * parameters.tightness
    norm = slope.square().sum(1)
    rho = constant + (slope * u).sum(1)
    # The thresholding step TH, eq. 13: its three cases limit the distance of v from u.
    factor = torch.where(norm > torch.finfo(torch.float32).eps, -rho / norm, 0.0)
    factor = torch.where(rho < -reach * norm, reach, torch.where(rho > reach * norm, -reach, factor))
    v = u + factor[:, None] * slope
    new_u = v + parameters.tightness * divergence(p)  # eq. 14
    ratio = parameters.time_step / parameters.tightness
    gradient = forward_gradient(new_u)
    p = (p + ratio * gradient) / (1 + ratio * gradient.square().sum(2, keepdim=True).sqrt())  # eq. 15
    change = (new_u - u).square().sum((1, 2, 3), dtype=torch.float64)
    return new_u, p, change


def centered_gradient(image: Tensor) -> Tensor:
    """Map (N, H, W) to (N, 2, H, W), x first; half of the one-sided difference at the border, as in OpenCV."""
    x = F.pad(image[:, None], (1, 1, 0, 0), mode="replicate")[:, 0]
    y = F.pad(image[:, None], (0, 0, 1, 1), mode="replicate")[:, 0]
    return 0.5 * torch.stack([x[:, :, 2:] - x[:, :, :-2], y[:, 2:] - y[:, :-2]], 1)


def forward_gradient(u: Tensor) -> Tensor:
    """Map (N, C, H, W) to (N, C, 2, H, W): differences to the pixels to the right and below, 0 at the far border."""
    return torch.stack(
        [F.pad(u[..., 1:] - u[..., :-1], (0, 1)), F.pad(u[..., 1:, :] - u[..., :-1, :], (0, 0, 0, 1))], 2
    )


def divergence(p: Tensor) -> Tensor:
    """Map (N, C, 2, H, W) to (N, C, H, W): the negative adjoint of :func:`forward_gradient`."""
    x, y = p.unbind(2)
    return x - F.pad(x[..., :-1], (1, 0)) + y - F.pad(y[..., :-1, :], (0, 0, 1, 0))


def warp(image: Tensor, flow: Tensor, positions_per_px: int) -> Tensor:
    """Sample ``image`` (N, H, W) at x + flow by cubic convolution (a = -3/4), with zeros outside of the image."""
    height, width = image.shape[1:]
    across = torch.arange(width, device=image.device, dtype=torch.float32) + flow[:, 0]
    down = torch.arange(height, device=image.device, dtype=torch.float32)[:, None] + flow[:, 1]
    if positions_per_px:
        across = (across * positions_per_px).round() / positions_per_px
        down = (down * positions_per_px).round() / positions_per_px
    left, top = across.floor(), down.floor()
    weights_x, weights_y = _cubic_weights(across - left), _cubic_weights(down - top)
    margin = 4  # of zeros; indices outside of the image are clamped into it
    padded = F.pad(image, (margin,) * 4).flatten(1)
    column = left.clamp(-3, width + 1).long() + margin
    row = top.clamp(-3, height + 1).long() + margin
    total = torch.zeros_like(image)
    for j in range(4):
        for i in range(4):
            index = (row + j - 1) * (width + 2 * margin) + column + i - 1
            total += weights_y[j] * weights_x[i] * padded.gather(1, index.flatten(1)).view_as(image)
    return total


def _cubic_weights(t: Tensor) -> list[Tensor]:
    """Return the weights of pixels -1, 0, 1, 2 for a position t in [0, 1) (Keys 1981, with a = -3/4)."""
    a = -0.75

    def outer(d: Tensor) -> Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    def inner(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    before, here, after = outer(t + 1), inner(t), inner(1 - t)
    return [before, here, after, 1 - before - here - after]


def median_filter(flow: Tensor, size: int) -> Tensor:
    """Return the median of each ``size`` x ``size`` window of (N, C, H, W), with repeated border pixels."""
    if size == 1:
        return flow
    padded = F.pad(flow, (size // 2,) * 4, mode="replicate")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)
    return windows.median(-1).values


def resize(images: Tensor, size: tuple[int, int], step_y: float, step_x: float) -> Tensor:
    """Resize (N, H, W) to (N, *size) bilinearly, with pixel centers ``step`` source pixels apart and repeated borders.

    In OpenCV's pyramid the step is exactly 1 / scale_step, although sizes are rounded.
    """
    for axis, step in ((2, step_x), (1, step_y)):
        length, target = images.shape[axis], size[axis - 1]
        position = (torch.arange(target, dtype=torch.float64) + 0.5) * step - 0.5
        position = position.clamp(0, length - 1)
        low = position.floor().long()
        weight = (position - low).float().to(images.device)
        low = low.to(images.device)
        high = (low + 1).clamp(max=length - 1)
        shape = [1, 1, 1]
        shape[axis] = target
        weight = weight.view(shape)
        images = images.index_select(axis, low) * (1 - weight) + images.index_select(axis, high) * weight
    return images
