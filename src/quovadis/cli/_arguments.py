"""Accept options before, between and after the positional arguments of a command."""

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from quovadis.runtime.plain_text import print
from quovadis.weights.catalog import CATALOG

_RUN_FILES = ("recipe.json", "best.safetensors", "last.safetensors")

_WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".index", ".tar.gz")
_HUB_PREFIX = "hf://"


def reorder_arguments(options: type, args: list[str]) -> list[str]:
    """Move the positional arguments of a command to the front, where the parser expects them.

    An option takes as many values as its type allows. ``--weights`` takes the next argument, and all other arguments
    that name weights, wherever they are; a video after it remains positional.

    Args:
        options: Dataclass with the options of the command.
        args: Command-line arguments after the command.

    Returns:
        The same arguments with positional ones first, or last after ``--`` if ``args`` contains ``--``.

    Example:
        >>> from quovadis.cli.predict import Predict
        >>> reorder_arguments(Predict, ["--weights", "rgb.pt", "v.mp4", "--top", "3", "flow.pt", "--json", "w.mp4"])
        ['v.mp4', 'w.mp4', '--weights', 'rgb.pt', 'flow.pt', '--top', '3', '--json']
    """
    hints = get_type_hints(options, include_extras=False)
    types = {f"--{field.name.replace('_', '-')}": hints[field.name] for field in fields(options)}
    after_dashes: list[str] = []
    if "--" in args:
        cut = args.index("--")
        args, after_dashes = args[:cut], args[cut + 1 :]
    positional: list[str] = []
    weights: list[str] = []
    named: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        if name == "--weights" and name in types:
            if not has_value and (not rest or rest[0].startswith("--")):
                print("error: --weights needs a value: a published name, a file or a run folder", file=sys.stderr)
                sys.exit(2)
            weights.append(value if has_value else rest.pop(0))
        elif name in types and not has_value:
            values = list(_option_values(types[name], rest))
            named += [word, *values]
            del rest[: len(values)]
        elif word.startswith("-") and word != "-":
            named.append(word)
        elif "--weights" in types and names_weights(word):
            weights.append(word)
        else:
            positional.append(word)
    if weights:
        weights.insert(0, "--weights")
    if after_dashes:
        return [*weights, *named, "--", *positional, *after_dashes]
    return [*positional, *weights, *named]


def names_weights(word: str) -> bool:
    """Return whether an argument is a published name, a Hub address, a weights file or a run folder."""
    path = Path(word)
    if word in CATALOG or word.startswith(_HUB_PREFIX) or path.name.lower().endswith(_WEIGHTS_SUFFIXES):
        return True
    if path.is_dir():
        return any((path / name).is_file() for name in _RUN_FILES) or any(path.glob("*.ckpt.index"))
    return path.with_name(f"{path.name}.index").is_file()


def _option_values(annotation: Any, rest: list[str]) -> Iterator[str]:
    """Yield the arguments after an option that are its values."""
    if annotation is bool:
        return
    is_tuple = get_origin(annotation) is tuple
    item_type = get_args(annotation)[0] if is_tuple else annotation
    for index, word in enumerate(rest):
        if word.startswith("--") or (index and not is_tuple):
            return
        if is_tuple and index and get_origin(item_type) is Literal and word not in get_args(item_type):
            return
        if is_tuple and index and item_type is not Path and Path(word).exists():
            return
        yield word
