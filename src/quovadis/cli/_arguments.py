"""Command-line arguments in any order: options may come before, between or after the videos."""

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from quovadis.runtime.plain_text import print
from quovadis.weights.catalog import CATALOG

RUN_WEIGHTS = ("best.safetensors", "last.safetensors")

_WEIGHTS_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".index", ".tar.gz")
_HUB = "hf://"


def arrange(options: type, args: list[str]) -> list[str]:
    """Move the positional arguments of a command to the front, where the parser expects them.

    An option takes as many values as its type says. ``--weights`` takes its first value and the following ones that
    name weights, so a video after it stays a video; an argument that names weights joins them wherever it is.

    Args:
        options: The dataclass of the command.
        args: What the user typed after the verb.

    Returns:
        The same arguments, positional ones first; after the options and ``--`` where the user wrote ``--``.

    Example:
        >>> from quovadis.cli.predict import Predict
        >>> arrange(Predict, ["--weights", "rgb.pt", "v.mp4", "--top", "3", "flow.pt", "--json", "w.mp4"])
        ['v.mp4', 'w.mp4', '--weights', 'rgb.pt', 'flow.pt', '--top', '3', '--json']
    """
    hints = get_type_hints(options, include_extras=False)
    kinds = {f"--{field.name.replace('_', '-')}": hints[field.name] for field in fields(options)}
    after_dashes: list[str] = []
    if "--" in args:
        cut = args.index("--")
        args, after_dashes = args[:cut], args[cut + 1 :]
    positional: list[str] = []
    weights: list[str] = []
    others: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        if name == "--weights" and name in kinds:
            if not has_value and (not rest or rest[0].startswith("--")):
                print("error: --weights needs a value: a published name, a file or a run folder", file=sys.stderr)
                sys.exit(2)
            weights.append(value if has_value else rest.pop(0))
        elif name in kinds and not has_value:
            values = list(_values_of(kinds[name], rest))
            others += [word, *values]
            del rest[: len(values)]
        elif word.startswith("-") and word != "-":
            others.append(word)
        elif "--weights" in kinds and names_weights(word):
            weights.append(word)
        else:
            positional.append(word)
    if weights:
        weights.insert(0, "--weights")
    if after_dashes:
        return [*weights, *others, "--", *positional, *after_dashes]
    return [*positional, *weights, *others]


def names_weights(word: str) -> bool:
    """Whether an argument names weights: a published name, a Hub address, a weights file or the folder of a run."""
    path = Path(word)
    if word in CATALOG or word.startswith(_HUB) or path.name.lower().endswith(_WEIGHTS_ENDINGS):
        return True
    if path.is_dir():
        return any((path / name).is_file() for name in ("recipe.json", *RUN_WEIGHTS)) or any(path.glob("*.ckpt.index"))
    return path.with_name(f"{path.name}.index").is_file()


def _values_of(kind: Any, rest: list[str]) -> Iterator[str]:
    """The values that belong to an option of this type, from what follows it."""
    if kind is bool:
        return
    many = get_origin(kind) is tuple
    inner = get_args(kind)[0] if many else kind
    for number, word in enumerate(rest):
        if word.startswith("--") or (number and not many):
            return
        if many and number and get_origin(inner) is Literal and word not in get_args(inner):
            return
        if many and number and inner is not Path and Path(word).exists():
            return
        yield word
