"""Temperature and calibration error."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from quovadis.errors import InvalidInputError
from quovadis.metrics.calibration import expected_calibration_error, fit_temperature


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_of_sampled_labels_is_recovered(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    true_logits = torch.randn(20_000, 4, generator=generator, dtype=torch.float64) * 2
    targets = torch.multinomial(true_logits.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(true_logits * temperature, targets) == pytest.approx(temperature, rel=0.05)


def test_separable_logits_give_a_finite_temperature() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(logits, torch.tensor([0, 1])) == pytest.approx(0.05, rel=0.01)
    assert fit_temperature(logits, torch.tensor([1, 0])) == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize("logits", [torch.zeros(0, 2), torch.tensor([[float("nan"), 0.0]])])
def test_missing_and_non_finite_logits_are_rejected(logits: torch.Tensor) -> None:
    with pytest.raises(InvalidInputError, match="finite logits"):
        fit_temperature(logits, torch.zeros(len(logits), dtype=torch.int64))


def test_calibration_error_matches_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = (torch.randn(500, 5, generator=generator) * 2).softmax(1)
    targets = torch.randint(5, (500,), generator=generator)
    expected = float(multiclass_calibration_error(probabilities, targets, 5, n_bins=15, norm="l1"))
    assert expected_calibration_error(probabilities, targets) == pytest.approx(expected, abs=1e-5)
