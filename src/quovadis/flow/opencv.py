"""Optical flow by OpenCV, for comparison (``opencv-tvl1``) and where speed counts more than the paper (``dis``)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.flow.parameters import TVL1Parameters
from quovadis.runtime.extras import missing_extra

OPENCV_METHODS = ("opencv-tvl1", "dis", "farneback")

PairEstimator = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def opencv_flow(first: Tensor, second: Tensor, method: str, parameters: TVL1Parameters | None) -> Tensor:
    """Flow between pairs of gray pictures by one of OpenCV's methods.

    Args:
        first: uint8 (N, H, W) on the CPU.
        second: like ``first``.
        method: ``opencv-tvl1`` (DualTVL1OpticalFlow), ``dis`` (Kroeger et al. 2016, preset "medium") or
            ``farneback`` (2003, OpenCV's usual arguments).
        parameters: of ``opencv-tvl1``.

    Returns:
        float32 (N, 2, H, W) in pixels, x to the right and y down.

    Raises:
        MissingExtraError: OpenCV is not installed, or without its contributed modules.
    """
    estimate = _estimator(method, parameters)
    flow = [torch.from_numpy(estimate(a, b)) for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    return torch.stack(flow).permute(0, 3, 1, 2).contiguous()


def _estimator(method: str, parameters: TVL1Parameters | None) -> PairEstimator:
    cv2 = _import_opencv(method)
    if method == "opencv-tvl1":
        return _opencv_tvl1(cv2, parameters or TVL1Parameters())
    if parameters is not None:
        raise InvalidInputError(f"parameters are those of TV-L1; method {method!r} takes none")
    if method == "dis":
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return lambda first, second: dis.calc(first, second, None)
    return lambda first, second: cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def _opencv_tvl1(cv2: Any, parameters: TVL1Parameters) -> PairEstimator:
    def estimate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Anew for each pair: OpenCV's object forgets the number of scales once it has seen a small picture.
        flow: NDArray[np.float32] = cv2.optflow.DualTVL1OpticalFlow_create(
            tau=parameters.time_step,
            lambda_=parameters.attachment,
            theta=parameters.tightness,
            nscales=parameters.num_scales,
            warps=parameters.num_warps,
            epsilon=parameters.stop_change_px,
            innnerIterations=parameters.num_inner_iterations,  # spelled so by OpenCV
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
