from pathlib import Path

import pytest

from quovadis.datasets.class_names import match_names, normalize_name
from quovadis.datasets.kinetics.class_names import LABEL_SETS, class_labels
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import DatasetError

MODEL = ("clean and jerk", "massaging person's head", "shooting goal (soccer)", "yoga", "Yo-Yo", "tie-dying")


def manifest(*labels: str) -> Manifest:
    return Manifest("mine", Path(), labels, tuple(VideoRecord(Path(f"{i}.mp4"), i, "test") for i in range(len(labels))))


@pytest.mark.parametrize(
    "names",
    [
        ("clean_and_jerk", "massaging_persons_head", "shooting_goal_(soccer)", "Yoga", "yoyo"),
        ("CleanAndJerk", "MassagingPersonsHead", "shooting goal soccer", "YOGA", "YoYo"),
        ("clean-and-jerk", "massaging person’s head", "shooting_goal_soccer", "yoga ", "yo_yo"),
    ],
)
def test_variants_of_a_name_match_if_unique(names: tuple[str, ...]) -> None:
    data = manifest(*names).with_labels(MODEL)
    assert data.labels == MODEL
    assert [data.label_of(r) for r in data.records] == list(MODEL[:5])
    assert data.notes[0].startswith(f"classes were matched with those of the model: {names[0]} is clean and jerk")


def test_equal_names_match_first() -> None:
    data = manifest("run", "Run").with_labels(("Run", "run"))
    assert [r.label for r in data.records] == [1, 0]
    assert data.notes == ()


@pytest.mark.parametrize(
    ("names", "labels", "message"),
    [
        (("clean_jerk",), MODEL, r"does not have: 'clean_jerk' \(did you mean 'clean and jerk'\?\)\. Rename"),
        (("xyz",), MODEL, r"1 classes that the model does not have: 'xyz'\. Rename"),
        (("RUN",), ("run", "Run"), r"'RUN' \(either 'run' or 'Run'\)"),
        (("run", "r_un"), ("run", "hop"), r"the classes 'run' and 'r_un' both match 'run' of the model"),
        (("3", "7"), MODEL, r"does not have: '3', '7'"),
    ],
)
def test_ambiguous_names_are_refused_with_a_suggestion(
    names: tuple[str, ...], labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        manifest(*names).with_labels(labels)


@pytest.mark.parametrize("first", [0, 1])
def test_as_many_numbers_as_classes_are_indices(first: int) -> None:
    numbers = [str(first + i) for i in range(len(MODEL))]
    assert match_names(numbers, MODEL, "mine") == dict(zip(numbers, MODEL, strict=True))
    with pytest.raises(DatasetError, match="does not have"):
        match_names(numbers[1:], MODEL, "mine")


@pytest.mark.parametrize("name", sorted(LABEL_SETS))
def test_normalized_class_names_of_kinetics_are_unique(name: str) -> None:
    labels = class_labels(name)
    assert len({normalize_name(label) for label in labels}) == len(labels)
    folders = [label.replace(" ", "_").replace("/", "_") for label in labels]
    assert list(match_names(folders, labels, "mine").values()) == list(labels)
