"""Optical flow with OpenCV: its TV-L1 for comparison, and faster methods."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.flow.parameters import TVL1Parameters
from quovadis.runtime.extras import missing_extra

PairEstimator = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def opencv_flow(first: Tensor, second: Tensor, method: str, parameters: TVL1Parameters | None) -> Tensor:
    """Estimate flow between pairs of grayscale images with a method of OpenCV.

    Args:
        first: uint8 tensor (N, H, W) on the CPU.
        second: Like ``first``.
        method: ``opencv-tvl1`` (DualTVL1OpticalFlow), ``dis`` (Kroeger et al. 2016, preset "medium") or
            ``farneback`` (2003, with the arguments of OpenCV's example).
        parameters: Parameters of ``opencv-tvl1``.

    Returns:
        float32 tensor (N, 2, H, W) in pixels; channel 0 points right, channel 1 down.

    Raises:
        MissingExtraError: If OpenCV or its contributed modules are not installed.
        InvalidInputError: If ``parameters`` are given for another method than ``opencv-tvl1``.
    """
    estimate = _estimator(method, parameters)
    flow = [torch.from_numpy(estimate(a, b)) for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    return torch.stack(flow).permute(0, 3, 1, 2).contiguous()


def _estimator(method: str, parameters: TVL1Parameters | None) -> PairEstimator:
    cv2 = _import_opencv(method)
    if method == "opencv-tvl1":
        return _opencv_tvl1(cv2, parameters or TVL1Parameters())
    if parameters is not None:
        raise InvalidInputError(f"parameters apply to TV-L1 only; got parameters for method {method!r}")
    if method == "dis":
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return lambda first, second: dis.calc(first, second, None)
    return lambda first, second: cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def _opencv_tvl1(cv2: Any, parameters: TVL1Parameters) -> PairEstimator:
    def estimate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Create the object for each pair: OpenCV permanently reduces its number of scales after a small image.
        flow: NDArray[np.float32] = cv2.optflow.DualTVL1OpticalFlow_create(
            tau=parameters.time_step,
            lambda_=parameters.attachment,
            theta=parameters.tightness,
            nscales=parameters.num_scales,
            warps=parameters.num_warps,
            epsilon=parameters.stop_change_px,
            innnerIterations=parameters.num_inner_iterations,  # OpenCV's spelling
            outerIterations=parameters.num_outer_iterations,
            scaleStep=parameters.scale_step,
            medianFiltering=parameters.median_size_px,
        ).calc(first, second, None)
        return flow

    return estimate


def _import_opencv(method: str) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise missing_extra(f"optical flow by method {method!r}", "opencv") from error
    if method == "opencv-tvl1" and not hasattr(cv2, "optflow"):
        raise missing_extra("TV-L1 by OpenCV (this OpenCV lacks its contributed modules):", "opencv")
    return cv2
