"""MkDocs hook: run the scripts in ``docs/tutorials`` and make a page of each, with its output and pictures.

A script consists of cells: ``# %% [markdown]`` begins text, written as comments, and ``# %%`` begins code. Below each
code cell, the page shows what it printed and the PNG files that it wrote to the working folder. Results are kept in
``build/tutorials`` until the script or the package changes.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ROOT / "docs" / "tutorials"
_CELL = re.compile(r"^# %%(?P<markdown> \[markdown\])?\n", re.M)


@dataclass
class Cell:
    """A cell of a script, and what it wrote."""

    text: str
    is_code: bool
    first_line: int
    output: str = ""
    pictures: list[str] = field(default_factory=list)


def on_files(files: Files, *, config: Any) -> Files:
    """Add a page for each script."""
    for script in sorted(SCRIPTS.glob("*.py")):
        folder, cells, problem = run_script(script)
        files.append(File.generated(config, f"tutorials/{script.stem}.md", content=make_page(script, cells, problem)))
        for name in [name for cell in cells for name in cell.pictures]:
            target = f"tutorials/{script.stem}/{name}"  # next to the page
            files.append(File.generated(config, target, content=(folder / name).read_bytes()))
    return files


def make_page(script: Path, cells: list[Cell], problem: str) -> str:
    """Make the Markdown of a page."""
    parts = []
    for cell in cells:
        if not cell.is_code:
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        if cell.output.strip():
            parts.append(f"```text\n{cell.output.rstrip()}\n```")
        parts += [f"![{Path(name).stem.replace('_', ' ')}]({script.stem}/{name})" for name in cell.pictures]
    title, *rest = parts
    notes = [f"This page is a script: [{script.name}]({script.name})."]
    if problem:
        notes.append(f'!!! warning "The script did not run to its end when this page was built"\n\n    {problem}')
    return "\n\n".join([title, *rest, *notes])


def run_script(script: Path) -> tuple[Path, list[Cell], str]:
    """Run a script in a new process, unless a result exists.

    Returns:
        The working folder, the cells, and why the script stopped early: the network could not be downloaded.
    """
    folder = ROOT / "build" / "tutorials" / f"{script.stem}-{_fingerprint(script)}"
    result = folder / "cells.json"
    if not result.exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted: old pictures would not count as new
        folder.mkdir(parents=True)
        environment = os.environ | {"MPLBACKEND": "agg"}
        done = subprocess.run(
            [sys.executable, __file__, str(script)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{script.name} failed:\n{done.stderr}")
    content = json.loads(result.read_text())
    if content["problem"]:
        result.unlink()  # try again in the next build
    return folder, [Cell(**cell) for cell in content["cells"]], content["problem"]


def read_cells(script: Path) -> list[Cell]:
    """Split a script into cells."""
    text = script.read_text()
    cells, found = [], list(_CELL.finditer(text))
    for match, following in zip(found, [*found[1:], None], strict=True):
        body = text[match.end() : following.start() if following else len(text)].strip("\n")
        is_code = match["markdown"] is None
        if not is_code:
            body = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
        cells.append(Cell(body, is_code, text[: match.end()].count("\n")))
    return cells


def _fingerprint(script: Path) -> str:
    sources = [script, Path(__file__), *sorted((ROOT / "src").rglob("*.py"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def _run_here(script: Path) -> None:
    """Run the code cells of a script in this process, and write them to ``cells.json``."""
    from quovadis.errors import DownloadError

    cells, problem = read_cells(script), ""
    names: dict[str, Any] = {"__name__": "__main__"}
    sys.argv = [str(script)]
    for cell in cells:
        if not cell.is_code:
            continue
        before, printed = set(Path().glob("*.png")), io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * cell.first_line + cell.text, script, "exec"), names)
        except DownloadError as error:
            problem = str(error)
            break
        cell.output = printed.getvalue()
        cell.pictures = sorted(str(path) for path in set(Path().glob("*.png")) - before)
    Path("cells.json").write_text(json.dumps({"problem": problem, "cells": [asdict(cell) for cell in cells]}))


if __name__ == "__main__":
    _run_here(Path(sys.argv[1]))
