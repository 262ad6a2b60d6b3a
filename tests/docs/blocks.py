"""Find the code blocks of a documentation page, and run or check them."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import tyro

from quovadis.cli import COMMANDS, main

LANGUAGES = ("python", "bash", "text", "json", "make")
"""Languages of code blocks. Blocks of text, json and make are not run."""

REASONS = ("the network", "a GPU", "large data", "installing", "a cluster", "a browser", "minutes")
"""Accepted reasons for not running a block, given as ``<!-- not run: needs a GPU -->`` on the line before it."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^(?P=indent)```\s*$", re.M | re.S)
_MARK = re.compile(r"<!-- not run: needs (?P<reason>[^>]+?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A code block."""

    page: Path
    line: int
    language: str
    code: str
    reason: str
    """Why the block is not run; empty if it is."""

    @property
    def where(self) -> str:
        """Location for messages."""
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """List the code blocks of a page in order.

    Raises:
        AssertionError: If the language of a block, or the reason for not running it, is unknown.
    """
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        mark = _MARK.search(text[: match.start()])
        reason = mark["reason"] if mark else ""
        where = f"{page.name}:{line}"
        assert match["language"] in LANGUAGES, f"{where}: expected one of {LANGUAGES} after the fence"
        assert reason in ("", *REASONS), f"{where}: {reason!r} is not an accepted reason; known: {REASONS}"
        code = "\n".join(row.removeprefix(match["indent"]) for row in match["code"].splitlines())
        found.append(Block(page, line, match["language"], code, reason))
    assert len(found) * 2 == len(re.findall(r"^ *```", text, re.M)), f"{page.name}: a fence is not closed"
    return found


def run(block: Block, names: dict[str, object]) -> None:
    """Run a block in the current folder; only check its syntax and names if it has a reason not to be run."""
    if block.language == "python":
        tree = ast.parse(block.code, block.where)
        if block.reason:
            _check_imports(tree, block)
        else:
            exec(compile(tree, block.where, "exec"), names)
    elif block.language == "bash":
        for words in commands(block.code):
            _run_command(words, block)


def commands(code: str) -> Iterator[list[str]]:
    """Split a shell block into commands without comments."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def _run_command(words: list[str], block: Block) -> None:
    arguments = _quovadis_arguments(words)
    if arguments is None:
        assert block.reason, f"{block.where}: {words[0]} is not quovadis; give the reason why the block is not run"
        return
    asks_only = not arguments or arguments[0].startswith("-") or "--help" in arguments
    if not asks_only:
        assert arguments[0] in COMMANDS, f"{block.where}: no command {arguments[0]!r}"
    code = exit_code(arguments, run=asks_only or not block.reason)
    assert code == 0, f"{block.where}: quovadis {shlex.join(arguments)} exits with {code}"


def exit_code(arguments: list[str], *, run: bool) -> int:
    """Return the exit code of a command; without ``run``, only parse it."""
    try:
        with nullcontext() if run else parsing_only():
            main(arguments)
    except Parsed:
        return 0
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _quovadis_arguments(words: list[str]) -> list[str] | None:
    if words[0] == "quovadis":
        return words[1:]
    if "quovadis" in words and words[words.index("quovadis") - 1] == "-m":
        return words[words.index("quovadis") + 1 :]
    return None


class Parsed(BaseException):
    """Raised after the arguments of a command were parsed."""


@contextmanager
def parsing_only() -> Iterator[None]:
    """Stop every command after its arguments were parsed."""
    parse = tyro.cli

    def parse_and_stop(*args: object, **options: object) -> None:
        parse(*args, **options)  # type: ignore[call-overload]
        raise Parsed

    with patch("tyro.cli", parse_and_stop):
        yield


def _check_imports(tree: ast.Module, block: Block) -> None:
    """That the names of quovadis exist, which a block that is not run uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("quovadis"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{block.where}: {node.module} has no {alias.name}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "quovadis":
            assert hasattr(importlib.import_module("quovadis"), node.attr), f"{block.where}: no quovadis.{node.attr}"
