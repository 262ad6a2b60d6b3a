"""Calibration error, reliability bins and temperature against closed forms, torchmetrics and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from quovadis.errors import InvalidInputError
from quovadis.metrics.calibration import expected_calibration_error, fit_temperature, reliability_bins


def samples(num: int, temperature: float, seed: int = 0, num_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits and targets drawn from softmax(logits / temperature)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num, num_classes, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial((logits / temperature).softmax(1), 1, generator=generator).flatten()


@settings(deadline=None)
@given(seed=st.integers(0, 1000), num_bins=st.integers(1, 30), num_classes=st.integers(2, 6))
def test_error_equals_torchmetrics(seed: int, num_bins: int, num_classes: int) -> None:
    logits, targets = samples(50, 2.0, seed, num_classes)
    probabilities = logits.softmax(1)
    expected = multiclass_calibration_error(probabilities, targets, num_classes, n_bins=num_bins, norm="l1")
    assert expected_calibration_error(probabilities, targets, num_bins) == pytest.approx(float(expected), abs=1e-5)


def test_fifteen_bins_are_the_default_as_in_the_literature() -> None:
    logits, targets = samples(300, 0.5)  # not the same error in other numbers of bins
    probabilities = logits.softmax(1)
    expected = multiclass_calibration_error(probabilities, targets, 4, n_bins=15, norm="l1")
    assert expected_calibration_error(probabilities, targets) == pytest.approx(float(expected), abs=1e-5)
    assert len(reliability_bins(probabilities, targets)) == 15


def test_bins_equal_scikit_learn() -> None:
    logits, targets = samples(300, 2.0)
    probabilities = logits.softmax(1)
    confidence, predicted = probabilities.max(1)
    accuracies, confidences = calibration_curve((predicted == targets).numpy(), confidence.numpy(), n_bins=10)
    bins = reliability_bins(probabilities, targets, 10)
    assert len(bins) == 10
    assert sum(b.count for b in bins) == 300
    filled = [b for b in bins if b.count]
    np.testing.assert_allclose([b.accuracy for b in filled], accuracies)
    np.testing.assert_allclose([b.confidence for b in filled], confidences)
    assert all(b.low < b.confidence <= b.high for b in filled)
    assert all(math.isnan(b.accuracy) for b in bins if not b.count)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_of_drawn_targets_is_recovered(true_temperature: float) -> None:
    logits, targets = samples(20000, true_temperature)
    assert fit_temperature(logits, targets) == pytest.approx(true_temperature, rel=0.04)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.5, 2))
def test_temperature_scales_with_the_logits_and_ignores_offsets(seed: int, scale: float) -> None:
    logits, targets = samples(200, 1.0, seed)
    temperature = fit_temperature(logits, targets)
    assert fit_temperature(logits * scale + torch.arange(200)[:, None], targets) == pytest.approx(
        temperature * scale, rel=1e-6
    )


def test_two_classes_match_the_closed_form() -> None:
    """With 3 of 4 correct at a logit difference of 4, sigmoid(4 / T) = 3 / 4."""
    logits = torch.tensor([[4.0, 0.0]] * 4)
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(4 / math.log(3))


def test_extreme_logits_give_the_limits() -> None:
    separated = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    assert fit_temperature(separated, torch.tensor([0, 1])) == pytest.approx(0.05)
    assert fit_temperature(separated, torch.tensor([1, 0])) == 20
    assert fit_temperature(torch.full((3, 2), 7.0), torch.tensor([0, 1, 0])) == 1
    assert 0.05 <= fit_temperature(separated * 1e4, torch.tensor([0, 1])) <= 20


def test_invalid_input_is_rejected() -> None:
    good = torch.tensor([[0.5, 0.5]])
    with pytest.raises(InvalidInputError, match="at least one"):
        reliability_bins(good[:0], torch.tensor([], dtype=torch.int64))
    with pytest.raises(InvalidInputError, match=r"\[0, 1\]"):
        expected_calibration_error(good, torch.tensor([2]))
    with pytest.raises(InvalidInputError, match="softmax"):
        expected_calibration_error(good * 8, torch.tensor([1]))
    with pytest.raises(InvalidInputError, match="NaN"):
        fit_temperature(good * math.nan, torch.tensor([1]))
