"""Load the public names of a package when they are first used, so that importing the package is fast."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attach(
    package: str, exports: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package (PEP 562).

    Args:
        package: The name of the package, ``__name__`` in its ``__init__.py``.
        exports: The public names of each module below the package.

    Returns:
        The three values to assign to ``__getattr__``, ``__dir__`` and ``__all__``.

    Example:
        >>> get, _, names = attach("quovadis.video", {"clip": ["Clip"]})
        >>> names, get("Clip")
        (['Clip'], <class 'quovadis.video.clip.Clip'>)
    """
    module_of = {name: f"{package}.{module}" for module, names in exports.items() for name in names}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module_of[name]), name)
        setattr(import_module(package), name, value)  # found without this function the next time
        return value

    return get, lambda: sorted(module_of), sorted(module_of)
