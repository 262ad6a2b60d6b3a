"""Match class names that differ in case, blanks, underscores or punctuation only."""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from quovadis.errors import DatasetError

_DROPPED = re.compile(r"[\s_\-'’\"(),/\\:&]+")


def plain_name(name: str) -> str:
    """A class name without what copies of a dataset change in it: case, blanks, underscores, most punctuation.

    >>> plain_name("Massaging_persons-head"), plain_name("massaging person's head")
    ('massagingpersonshead', 'massagingpersonshead')
    """
    return _DROPPED.sub("", unicodedata.normalize("NFKC", name).casefold())


def match_names(names: Sequence[str], known: Sequence[str], dataset: str) -> dict[str, str]:
    """For each class of a dataset the name that a model has for it.

    Equal names match. Names that are equal after :func:`plain_name` match where that leaves no choice. Where all names
    are numbers and there are as many as the model has classes, they are positions in its list.

    Raises:
        DatasetError: If a class has no match or several; suggests how to rename it.

    >>> match_names(["clean_and_jerk", "yoga"], ["clean and jerk", "yoga", "zumba"], "clips")
    {'clean_and_jerk': 'clean and jerk', 'yoga': 'yoga'}
    """
    numbered = _positions(names, known)
    if numbered:
        return numbered
    plain = defaultdict(list)
    for label in known:
        plain[plain_name(label)].append(label)
    exact = set(known)
    candidates = {name: [name] if name in exact else plain[plain_name(name)] for name in names}
    unknown = [name for name in names if len(candidates[name]) != 1]
    if unknown:
        hints = [_hint(name, candidates[name], known) for name in unknown[:5]]
        more = f" ... ({len(unknown)} in all)" if len(unknown) > len(hints) else ""
        raise DatasetError(
            f"{dataset} has {len(unknown)} classes that the model does not know: {', '.join(hints)}{more}. Rename "
            f"their folders or labels to those of the model; it knows {', '.join(known[:3])} ... ({len(known)} in all)"
        )
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(candidates[name][0], name)
        if other != name:
            raise DatasetError(
                f"{dataset}: the classes {other!r} and {name!r} both match {candidates[name][0]!r} of the model: put "
                "their videos into one class, or rename one of them"
            )
    return {name: candidates[name][0] for name in names}


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of class names that :func:`plain_name` makes equal.

    >>> similar_names(["air drumming", "air_drumming", "yoga"])
    [('air drumming', 'air_drumming')]
    """
    plain = defaultdict(list)
    for name in names:
        plain[plain_name(name)].append(name)
    return [tuple(group) for group in plain.values() if len(group) > 1]


def _positions(names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Numbers as positions in the list of the model, counted from 0 or from 1; empty where they are something else."""
    if set(names) & set(known) or not all(name.isascii() and name.isdigit() for name in names):
        return {}
    numbers = sorted(int(name) for name in names)
    first = numbers[0]
    if first not in (0, 1) or numbers != list(range(first, first + len(known))):
        return {}
    return {name: known[int(name) - first] for name in names}


def _hint(name: str, candidates: Sequence[str], known: Sequence[str]) -> str:
    if candidates:
        return f"{name!r} (either {' or '.join(map(repr, candidates))})"
    by_plain = {plain_name(label): label for label in known}
    near = difflib.get_close_matches(plain_name(name), by_plain, n=1)
    return f"{name!r} (did you mean {by_plain[near[0]]!r}?)" if near else repr(name)
