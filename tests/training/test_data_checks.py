"""Wrong labels, near-duplicates and leakage found by features."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quovadis.errors import InvalidInputError
from quovadis.training import data_checks
from quovadis.training.data_checks import (
    accuracy_without,
    find_label_errors,
    find_near_duplicates,
    leaking_videos,
    nearest_neighbors,
    standardize,
)


def i3d_like(num: int, seed: int = 0) -> torch.Tensor:
    """Random non-negative features with a large common mean."""
    generator = torch.Generator().manual_seed(seed)
    mean = 5 * torch.rand(256, generator=generator)
    return (mean + 0.3 * torch.randn(num, 256, generator=generator)).relu()


def test_flipped_labels_of_a_confident_classifier_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(300) % 3
    probabilities = (torch.nn.functional.one_hot(truth, 3) * 8.0 + torch.randn(300, 3, generator=generator)).softmax(1)
    targets = truth.clone()
    flipped = [5, 100, 250]
    targets[flipped] = (targets[flipped] + 1) % 3
    doubts = find_label_errors(probabilities, targets)
    assert {d.index for d in doubts} == set(flipped)
    assert [d.probability for d in doubts] == sorted((d.probability for d in doubts), reverse=True)
    for d in doubts:
        assert (d.label, d.predicted) == (int(targets[d.index]), int(truth[d.index]))
        assert d.label_probability == pytest.approx(float(probabilities[d.index, d.label]))
    assert len(find_label_errors(probabilities, targets, max_doubts=2)) == 2
    assert find_label_errors(probabilities, truth) == ()


def test_class_threshold_is_the_average_of_the_class() -> None:
    """Videos of class 0 have 0.97 on average: 0.93 is not enough."""
    rows = [[0.97, 0.03]] * 4 + [[0.1, 0.9]] * 4 + [[0.93, 0.07], [0.05, 0.95]]
    targets = torch.tensor([0] * 4 + [1] * 4 + [1, 1])
    assert find_label_errors(torch.tensor(rows), targets) == ()
    rows[3] = [0.03, 0.97]
    assert [d.index for d in find_label_errors(torch.tensor(rows), targets)] == [3, 8], (
        "the average of class 0 is lower"
    )


def test_class_without_videos_is_never_predicted() -> None:
    assert find_label_errors(torch.tensor([[0.01, 0.99], [0.9, 0.1]]), torch.tensor([0, 0])) == ()
    assert find_label_errors(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)) == ()


def test_copies_are_found_in_spite_of_the_common_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    features = i3d_like(100)
    features[70] = features[3]
    features[40] = features[90] + 0.03 * torch.randn(256, generator=torch.Generator().manual_seed(9))
    everything = find_near_duplicates(features)
    assert [(p.first, p.second) for p in everything] == [(3, 70), (40, 90)]
    assert everything[0].similarity == pytest.approx(1, abs=1e-5)
    monkeypatch.setattr(data_checks, "BLOCK", 7)
    assert [(p.first, p.second) for p in find_near_duplicates(features)] == [(3, 70), (40, 90)], "independent of blocks"
    assert len(find_near_duplicates(features, max_pairs=1)) == 1
    assert len(find_near_duplicates(features, threshold=-2.0, max_pairs=10**6)) == 100 * 99 // 2


@settings(deadline=None)
@given(seed=st.integers(0, 100), block=st.integers(1, 40))
def test_pairs_and_neighbors_equal_all_pairwise_cosines(seed: int, block: int) -> None:
    features = i3d_like(23, seed)
    z = (features.double() - features.double().mean(0)) / features.double().std(0, correction=0)
    cosine = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_checks, "BLOCK", block)
        pairs = find_near_duplicates(features, threshold=0.1)
        indices, similarities = nearest_neighbors(features, k=3)
    assert {(p.first, p.second) for p in pairs} == {tuple(p) for p in (cosine >= 0.1).triu(1).nonzero().tolist()}
    expected = cosine.fill_diagonal_(-2).topk(3)
    assert torch.equal(indices, expected.indices)
    torch.testing.assert_close(similarities.double(), expected.values, atol=1e-5, rtol=0)


def test_identical_videos_and_constant_features_are_handled() -> None:
    assert len(find_near_duplicates(torch.full((4, 3), 0.1))) == 6, "all are copies"
    assert find_near_duplicates(torch.rand(1, 3)) == ()
    assert (standardize(torch.full((4, 3), 0.1)) == 0).all()
    with pytest.raises(InvalidInputError, match="k must be"):
        nearest_neighbors(torch.rand(3, 2), k=3)
    with pytest.raises(InvalidInputError, match="NaN"):
        find_near_duplicates(torch.tensor([[1.0], [torch.nan]]))


def test_leaks_are_copies_in_other_parts_and_other_groups() -> None:
    features = i3d_like(60)
    for first, second in ((0, 1), (2, 3), (4, 5), (6, 7)):
        features[second] = features[first]
    parts = torch.arange(60) % 2
    parts[[2, 3]] = 1  # one part
    groups = [f"g{i}" for i in range(60)]
    groups[4] = groups[5] = "same"
    groups[6] = groups[7] = ""  # no group: not related
    assert leaking_videos(features, parts, groups).nonzero().flatten().tolist() == [0, 1, 6, 7]
    with pytest.raises(InvalidInputError, match="groups"):
        leaking_videos(features, parts, groups[1:])


def test_accuracy_without_leaks() -> None:
    correct = torch.tensor([True, False, True, True])
    effect = accuracy_without(correct, torch.tensor([True, False, False, False]))
    assert (effect.accuracy, effect.num_videos, effect.num_leaking) == (0.75, 4, 1)
    assert effect.clean_accuracy == pytest.approx(2 / 3)
    assert accuracy_without(correct, torch.ones(4, dtype=torch.bool)).clean_accuracy is None
    with pytest.raises(InvalidInputError):
        accuracy_without(correct, torch.ones(3, dtype=torch.bool))
