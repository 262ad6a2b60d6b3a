"""What MkDocs asks of us while it builds: the command line's own words."""

import contextlib
import io
import os
from typing import Any

MARK = "{{ command line }}"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of every verb where a page asks for it."""
    return markdown.replace(MARK, command_line()) if MARK in markdown else markdown


def command_line() -> str:
    """A section for each verb with what ``quovadis VERB --help`` prints."""
    from quovadis.cli import COMMANDS

    sections = [f"## quovadis\n\n```text\n{help_of()}\n```"]
    sections += [f"## quovadis {verb}\n\n{what}\n\n```text\n{help_of(verb)}\n```" for verb, what in COMMANDS.items()]
    return "\n\n".join(sections)


def help_of(*verb: str) -> str:
    """What a verb prints when asked for help."""
    from quovadis.cli import main

    os.environ["COLUMNS"] = "100"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*verb, "--help"])
    return printed.getvalue().strip()
