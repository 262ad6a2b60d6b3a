"""Random train, validation and test splits that keep groups of videos together."""

import warnings
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from quovadis.datasets.manifest import SPLITS
from quovadis.errors import DatasetError


def assign_splits(
    labels: Sequence[int],
    groups: Sequence[str],
    *,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
) -> list[str]:
    """Assign each video to a split at random, stratified by class and without dividing a group.

    Groups are assigned one by one, largest first and in random order among equals. Each goes to the split that is
    furthest from its target for the classes of the group. A video with an empty group is its own group.

    Args:
        labels: Class index of each video.
        groups: Group of each video.
        seed: Seed of the random order.
        fractions: Target fractions of train, val and test.

    Returns:
        The split of each video.

    Example:
        >>> labels, groups = [0, 0, 0, 0, 1, 1, 1, 1], ["a", "a", "b", "c", "d", "d", "e", "f"]
        >>> assign_splits(labels, groups, fractions=(0.5, 0.25, 0.25))
        ['train', 'train', 'test', 'val', 'train', 'train', 'test', 'val']
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group or f"\0{i}"].append(i)
    num_classes = max(labels) + 1
    totals = np.bincount(labels, minlength=num_classes).astype(float)
    targets = np.outer(fractions, totals)
    remaining = targets.copy()
    rng = np.random.default_rng(seed)
    order = list(members.values())
    rng.shuffle(order)
    order.sort(key=len, reverse=True)
    splits = [""] * len(labels)
    for group_members in order:
        counts = np.bincount([labels[i] for i in group_members], minlength=num_classes)
        remaining_fraction = remaining / np.maximum(targets, 1e-9)
        best = int(np.argmax((remaining_fraction * counts).sum(1)))
        remaining[best] -= counts
        for i in group_members:
            splits[i] = SPLITS[best]
    return splits


def hold_out_validation(splits: Sequence[str], labels: Sequence[int], groups: Sequence[str], seed: int) -> list[str]:
    """Move a tenth of the training videos to the validation split, without dividing a group.

    Example:
        >>> hold_out_validation(["train"] * 10 + ["test"], [0] * 11, [""] * 11, seed=0).count("val")
        1
    """
    train = [i for i, split in enumerate(splits) if split == "train"]
    parts = assign_splits([labels[i] for i in train], [groups[i] for i in train], seed=seed, fractions=(0.9, 0.1, 0.0))
    result = list(splits)
    for i, part in zip(train, parts, strict=True):
        result[i] = part
    return result


def assign_folds(labels: Sequence[int], groups: Sequence[str], num_folds: int, *, seed: int = 0) -> list[int]:
    """Assign each video to a fold of a cross-validation, stratified by class and without dividing a group.

    Args:
        labels: Class index of each video.
        groups: Group of each video. A video with an empty group is its own group.
        num_folds: Number of folds, at least 2.
        seed: Seed of the random order.

    Returns:
        The fold of each video, from 0 to ``num_folds - 1``. Every fold has at least one video.

    Raises:
        DatasetError: If there are fewer groups than folds.

    Example:
        >>> assign_folds([0, 0, 1, 1, 0, 1], ["a", "a", "b", "b", "c", "c"], 3)
        [1, 1, 0, 0, 2, 2]
    """
    names = {group: i for i, group in enumerate(dict.fromkeys(g or f"\0{i}" for i, g in enumerate(groups)))}
    if num_folds < 2:
        raise DatasetError(f"cross-validation needs at least 2 folds; got {num_folds}")
    if num_folds > len(names):
        raise DatasetError(
            f"{num_folds} folds need at least {num_folds} groups of videos; got {len(names)}: use fewer folds, or add "
            "videos of other sources"
        )
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = [names[g or f"\0{i}"] for i, g in enumerate(groups)]
    result = [0] * len(labels)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer videos than folds are allowed
        for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(labels)), labels, numbers)):
            for i in held_out.tolist():
                result[i] = fold
    return result
