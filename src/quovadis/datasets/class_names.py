"""Match class names that differ only in case, spaces, underscores or punctuation."""

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from quovadis.errors import DatasetError

_SEPARATORS = re.compile(r"[\s_]+|(?<=[^\W\d_])-(?=[^\W\d_])")  # a hyphen in "1-2" or "-1" has a meaning
_DROPPED = re.compile(r"[\s_\-'’\"(),/\\:&]+")


def normalize_name(name: str) -> str:
    """Remove case, spaces, underscores and most punctuation, which differ between copies of a dataset.

    Example:
        >>> normalize_name("Massaging_persons-head"), normalize_name("massaging person's head")
        ('massagingpersonshead', 'massagingpersonshead')
    """
    return _DROPPED.sub("", unicodedata.normalize("NFKC", name).casefold())


def match_names(names: Sequence[str], model_names: Sequence[str], dataset: str) -> dict[str, str]:
    """Map each class name of a dataset to the class name of a model.

    Equal names match. Names that are equal after :func:`normalize_name` match if the match is unique. If all names are
    numbers and there are as many as the model has classes, they are indices into its list, starting at 0 or 1.

    Args:
        names: Class names of the dataset.
        model_names: Class names of the model.
        dataset: Name of the dataset, for error messages.

    Raises:
        DatasetError: If a class has no match or several, or two classes have the same match.

    Example:
        >>> match_names(["clean_and_jerk", "yoga"], ["clean and jerk", "yoga", "zumba"], "clips")
        {'clean_and_jerk': 'clean and jerk', 'yoga': 'yoga'}
    """
    numbered = _match_numbers(names, model_names)
    if numbered:
        return numbered
    by_normalized = defaultdict(list)
    for name in model_names:
        by_normalized[normalize_name(name)].append(name)
    exact = set(model_names)
    candidates = {name: [name] if name in exact else by_normalized[normalize_name(name)] for name in names}
    unmatched = [name for name in names if len(candidates[name]) != 1]
    if unmatched:
        hints = [_hint(name, candidates[name], model_names) for name in unmatched[:5]]
        more = f" ... ({len(unmatched)} in all)" if len(unmatched) > len(hints) else ""
        raise DatasetError(
            f"{dataset} has {len(unmatched)} classes that the model does not have: {', '.join(hints)}{more}. Rename "
            f"folders or labels to match the classes of the model: {', '.join(model_names[:3])} ... "
            f"({len(model_names)} in all)"
        )
    matched: dict[str, str] = {}
    for name in names:
        other = matched.setdefault(candidates[name][0], name)
        if other != name:
            raise DatasetError(
                f"{dataset}: the classes {other!r} and {name!r} both match {candidates[name][0]!r} of the model: put "
                "their videos into one class, or rename one of them"
            )
    return {name: candidates[name][0] for name in names}


def merge_spellings(names: Sequence[str]) -> dict[str, str]:
    """Map spellings of one class that differ only in case, spaces, underscores or hyphens to the most frequent one.

    Args:
        names: The class name of each video.

    Returns:
        The class name for each spelling, also for those that are not changed.

    Example:
        >>> merge_spellings(["clean_and_jerk", "Clean and jerk", "Clean and jerk", "-1", "1"])
        {'clean_and_jerk': 'Clean and jerk', 'Clean and jerk': 'Clean and jerk', '-1': '-1', '1': '1'}
    """
    counts = Counter(names)
    best: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        best.setdefault(_class_key(name), name)
    return {name: best[_class_key(name)] for name in counts}


def _class_key(name: str) -> str:
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", name)).strip().casefold()


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Group the class names that are equal after :func:`normalize_name`.

    Example:
        >>> similar_names(["air drumming", "air_drumming", "yoga"])
        [('air drumming', 'air_drumming')]
    """
    by_normalized = defaultdict(list)
    for name in names:
        by_normalized[normalize_name(name)].append(name)
    return [tuple(group) for group in by_normalized.values() if len(group) > 1]


def _match_numbers(names: Sequence[str], model_names: Sequence[str]) -> dict[str, str]:
    """Match numbers with the classes at these positions, or return an empty dict if the names are not numbers."""
    if set(names) & set(model_names) or not all(name.isascii() and name.isdigit() for name in names):
        return {}
    numbers = sorted(int(name) for name in names)
    first = numbers[0]
    if first not in (0, 1) or numbers != list(range(first, first + len(model_names))):
        return {}
    return {name: model_names[int(name) - first] for name in names}


def _hint(name: str, candidates: Sequence[str], model_names: Sequence[str]) -> str:
    if candidates:
        return f"{name!r} (either {' or '.join(map(repr, candidates))})"
    by_normalized = {normalize_name(label): label for label in model_names}
    near = difflib.get_close_matches(normalize_name(name), by_normalized, n=1)
    return f"{name!r} (did you mean {by_normalized[near[0]]!r}?)" if near else repr(name)
