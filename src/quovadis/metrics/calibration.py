"""Calibration of probabilities: temperature scaling and expected calibration error."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError

_LOG_TEMPERATURES = (math.log(0.05), math.log(20.0))


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Fit the temperature T that minimizes the cross-entropy of ``softmax(logits / T)``.

    Above 1 the logits are overconfident, below 1 underconfident. The search is limited to [0.05, 20], because separable
    logits have no minimum.

    Args:
        logits: float (N, K) of samples that were not used to fit the classifier.
        targets: int64 (N,).

    Returns:
        The temperature.

    Raises:
        InvalidInputError: If there are no samples, or a logit is not finite.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)  # 4 / T = log 3
        3.641

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    if not len(logits) or not logits.isfinite().all():
        raise InvalidInputError(f"a temperature needs finite logits of at least one sample; got {tuple(logits.shape)}")
    from scipy.optimize import minimize_scalar

    x = logits.double()
    found = minimize_scalar(
        lambda log_t: float(F.cross_entropy(x / math.exp(log_t), targets)), bounds=_LOG_TEMPERATURES, method="bounded"
    )
    return math.exp(float(found.x))


def expected_calibration_error(probabilities: Tensor, targets: Tensor, num_bins: int = 15) -> float:
    """Compute the mean difference between confidence and accuracy over bins of equal width.

    Args:
        probabilities: float (N, K).
        targets: int64 (N,).
        num_bins: Number of bins.

    Returns:
        The error in [0, 1]; 0 for perfectly calibrated probabilities.

    Example:
        >>> expected_calibration_error(torch.tensor([[0.8, 0.2]] * 5), torch.tensor([0, 0, 0, 0, 1]))
        0.0
    """
    confidence, predicted = probabilities.double().max(1)
    correct = (predicted == targets).double()
    bins = (confidence * num_bins).long().clamp(max=num_bins - 1)
    gaps = torch.zeros(num_bins, dtype=torch.float64).index_add(0, bins, confidence - correct)
    return round(float(gaps.abs().sum()) / len(targets), 12)
