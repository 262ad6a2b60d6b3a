"""Cross-validation by group."""

import numpy as np
import pytest
import torch
from torch import Tensor

from quovadis.errors import DatasetError, TrainingError
from quovadis.training.cross_validation import cross_validate
from quovadis.training.logistic import fit_logistic


def cameras(num_groups: int = 10, per_group: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, list[str]]:
    """Videos whose features only tell their camera; each camera has one class, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randn(num_groups, 64, generator=generator) * 5
    group = torch.arange(num_groups).repeat_interleave(per_group)
    x = places[group] + torch.randn(len(group), 64, generator=generator) * 0.1
    return x[:, None], group % 2, [f"camera {g}" for g in group.tolist()]


def test_groups_prevent_leakage() -> None:
    samples, targets, groups = cameras(16)
    leaking = cross_validate(samples, targets, [""] * len(groups), 2)
    honest = cross_validate(samples, targets, groups, 2)
    assert leaking.accuracy == 1.0
    assert honest.accuracy < 0.75
    for group in set(groups):
        assert len({int(f) for f, g in zip(honest.folds, groups, strict=True) if g == group}) == 1


def test_scores_come_from_classifiers_that_have_not_seen_the_fold() -> None:
    samples, targets, groups = cameras()
    result = cross_validate(samples, targets, groups, 2, num_folds=3, strengths=(1.0,))
    for fold in range(3):
        held_out = result.folds == fold
        weight, bias = fit_logistic(samples[~held_out, 0], targets[~held_out], 2, l2=1.0)
        expected = samples[held_out, 0].double() @ weight.T + bias
        torch.testing.assert_close(result.logits[held_out], expected)


def test_accuracy_spread_and_interval() -> None:
    samples, targets, groups = cameras(20)
    samples[:, 0, 0] = targets * 20.0 + torch.randn(len(targets), generator=torch.Generator().manual_seed(1)) * 12
    result = cross_validate(samples, targets, groups, 2, strengths=(10.0,))
    assert result.accuracy == float((result.logits.argmax(1) == targets).double().mean())
    assert np.isclose(result.spread, np.std(result.fold_accuracies, ddof=1))
    low, high = result.interval
    assert low < result.accuracy < high
    assert result.majority == 0.5
    assert f"{result.accuracy:.1%}" in result.describe()


def test_other_seed_gives_other_folds() -> None:
    samples, targets, groups = cameras()
    first, again, other = (cross_validate(samples, targets, groups, 2, strengths=(1.0,), seed=s) for s in (0, 0, 1))
    assert torch.equal(first.logits, again.logits)
    assert not torch.equal(first.folds, other.folds)


def test_class_in_a_single_group_is_rejected() -> None:
    samples, targets, groups = cameras()
    targets = torch.tensor([int(g == "camera 3") for g in groups])
    with pytest.raises(TrainingError, match="contains all videos of 1 classes, the first is number 1"):
        cross_validate(samples, targets, groups, 2)


@pytest.mark.parametrize(("num_folds", "match"), [(11, "11 folds need at least 11 groups"), (1, "at least 2 folds")])
def test_impossible_number_of_folds_is_rejected(num_folds: int, match: str) -> None:
    samples, targets, groups = cameras()
    with pytest.raises(DatasetError, match=match):
        cross_validate(samples, targets, groups, 2, num_folds=num_folds)
