"""MkDocs hook: insert the help of all commands and the public names of packages into the reference pages."""

import contextlib
import io
import os
import re
from importlib import import_module
from typing import Any

_COMMANDS = "{{ command line }}"
_SUBCOMMANDS = {
    "train": ("frozen", "finetune"),
    "data": ("index", "verify", "stats", "download"),
    "weights": ("list", "show", "get", "convert", "verify", "filters", "push"),
}
_PACKAGE = re.compile(r"\{\{ package (?P<name>[\w.]+) \}\}")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers on a page."""
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, command_line())
    return _PACKAGE.sub(lambda match: package_reference(match["name"]), markdown)


def package_reference(name: str) -> str:
    """Make the reference of a package: its docstring and an entry for each public name."""
    package = import_module(name)
    summary, _, example = (package.__doc__ or "").partition("Example::")
    code = "\n".join(line.removeprefix("    ") for line in example.strip("\n").splitlines())
    names = [public for public in package.__all__ if public != "__version__"]
    entries = "\n".join(f"::: {name}.{public}" for public in names)
    return f"{summary.strip()}\n\n```python\n{code.strip()}\n```\n\n{entries}"


def command_line() -> str:
    """Make a section for each command and subcommand with the output of ``quovadis COMMAND --help``."""
    from quovadis.cli import COMMANDS

    sections = [f"## quovadis\n\n```text\n{help_of()}\n```"]
    for name, what in COMMANDS.items():
        sections.append(f"## quovadis {name}\n\n{what[0].upper()}{what[1:]}.\n\n```text\n{help_of(name)}\n```")
        subs = _SUBCOMMANDS.get(name, ())
        sections += [f"### quovadis {name} {sub}\n\n```text\n{help_of(name, sub)}\n```" for sub in subs]
    return "\n\n".join(sections)


def help_of(*command: str) -> str:
    """Return the help of a command."""
    from quovadis.cli import main

    os.environ["COLUMNS"] = "80"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return printed.getvalue().strip()
