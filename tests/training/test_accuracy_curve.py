"""Learning curves."""

import pytest
import torch

from quovadis.errors import InvalidInputError
from quovadis.training.accuracy_curve import CurvePoint, learning_curve, more_data_helps


def separable(num: int, shift: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    targets = torch.arange(num) % 2
    features = torch.randn(num, 20, generator=torch.Generator().manual_seed(0)) + shift * targets[:, None]
    return features, targets


def test_accuracy_grows_to_the_bayes_limit() -> None:
    """The classes are Gaussians at a distance of sqrt(20): the best accuracy is Phi(sqrt(20) / 2) = 0.987."""
    features, targets = separable(160)
    points = learning_curve(features, targets, [""] * 160, l2=10.0, sizes=(1, 4, 16, 1000), num_repeats=3)
    assert [p.num_per_class for p in points] == [1, 4, 16, 64]
    assert points[0].accuracy < points[1].accuracy < points[-1].accuracy
    assert points[-1].accuracy == pytest.approx(0.987, abs=0.04)
    assert all(p.low <= p.accuracy <= p.high and p.num_runs == 3 for p in points)
    assert points == learning_curve(features, targets, [""] * 160, l2=10.0, sizes=(1, 4, 16, 1000), num_repeats=3)


def test_groups_stay_on_one_side_and_samples_are_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = separable(48)
    groups = [f"g{i // 4}" for i in range(48)]
    calls: list[tuple[list[int], list[int]]] = []

    def record(_x: torch.Tensor, _y: torch.Tensor, train: torch.Tensor, test: torch.Tensor, l2: float) -> int:
        calls.append((train.tolist(), test.tolist()))
        return len(test)

    monkeypatch.setitem(learning_curve.__globals__, "_num_correct", record)
    learning_curve(features, targets, groups, l2=1.0, sizes=(2, 5), num_repeats=1, num_folds=3)
    assert len(calls) == 9
    for train, test in calls:
        assert not {groups[i] for i in train} & {groups[i] for i in test}
    for fold in range(3):
        two, five, everything = (set(calls[fold + 3 * i][0]) for i in range(3))
        assert two < five < everything
        assert [int((targets[list(s)] == 1).sum()) for s in (two, five)] == [2, 5]
    assert sorted(i for _, test in calls[:3] for i in test) == list(range(48)), "each video is held out once"


def test_labels_without_relation_stay_at_chance() -> None:
    features, _ = separable(120, shift=0.0)
    points = learning_curve(features, torch.arange(120) % 2, [""] * 120, l2=10.0, sizes=(5,), num_repeats=4)
    assert all(abs(p.accuracy - 0.5) < 0.12 for p in points)


def test_too_few_groups_are_rejected() -> None:
    features, targets = separable(8)
    with pytest.raises(InvalidInputError, match="two groups"):
        learning_curve(features, targets, [f"class {int(t)}" for t in targets], l2=1.0)
    with pytest.raises(InvalidInputError, match="at least two classes"):
        learning_curve(features, targets * 0, [""] * 8, l2=1.0)
    with pytest.raises(InvalidInputError, match="groups"):
        learning_curve(features, targets, [""] * 7, l2=1.0)


def curve(*accuracies: float, spread: float = 0.005, runs: int = 9) -> list[CurvePoint]:
    return [CurvePoint(10 * 2**i, a, a - spread, a + spread, runs) for i, a in enumerate(accuracies)]


def test_verdicts() -> None:
    assert "added 3.0 points" in more_data_helps(curve(0.2, 0.9, 0.93, 0.96)), "only the last two doublings count"
    assert "probably help" in more_data_helps(curve(0.9, 0.93, 0.96))
    assert "flat" in more_data_helps(curve(0.5, 0.95, 0.95, 0.95))
    assert "cost 4.0 points" in more_data_helps(curve(0.95, 0.91))
    assert "too uncertain" in more_data_helps(curve(0.90, 0.93, 0.96, spread=0.2))
    assert "too few" in more_data_helps(curve(0.9))
    assert "too few" in more_data_helps([])


def test_uncertainty_is_two_standard_errors_of_the_slope() -> None:
    """For two points one doubling apart: 2 sqrt(2) spread / sqrt(runs)."""
    assert "(± 2.8)" in more_data_helps(curve(0.8, 0.9, spread=0.03, runs=9))
