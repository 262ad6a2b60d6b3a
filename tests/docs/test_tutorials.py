"""The scripts in docs/tutorials. The test of the site runs them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.blocks import Block, run

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))

_SCRIPT = '''"""A docstring."""

# %% [markdown]
# # Title
#
# - A list
#   of one.

# %%
from pathlib import Path

names = ["a", "b"]
print(len(names))
Path("picture_of_a.png").write_bytes(b"png")

# %%
{last}
'''


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("mkdocs")
    path = ROOT / "docs" / "tools" / "tutorials.py"
    spec = importlib.util.spec_from_file_location("tutorials_hook", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def page_of(hook: ModuleType, script: Path, last: str) -> str:
    script.write_text(_SCRIPT.format(last=last))
    _, cells, problem = hook.run_script(script)
    return hook.make_page(script, cells, problem)


def test_a_page_has_text_code_output_and_pictures(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "ROOT", tmp_path)
    script = tmp_path / "try_it.py"
    page = page_of(hook, script, "print(names[1])")
    assert page.startswith("# Title\n\n- A list\n  of one.\n\n```python\nfrom pathlib")
    assert "```text\n2\n```\n\n![picture of a](try_it/picture_of_a.png)" in page
    assert "```text\nb\n```" in page
    script_time = next(tmp_path.rglob("cells.json")).stat().st_mtime_ns
    assert page_of(hook, script, "print(names[1])") == page
    assert next(tmp_path.rglob("cells.json")).stat().st_mtime_ns == script_time  # not run again


def test_a_missing_network_is_said_and_other_errors_stop_the_build(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "ROOT", tmp_path)
    script = tmp_path / "try_it.py"
    page = page_of(hook, script, "from quovadis.errors import DownloadError\nraise DownloadError('no network')")
    assert "```text\n2\n```" in page
    assert "did not run to its end" in page
    assert "    no network" in page
    assert not list(tmp_path.rglob("cells.json"))  # the next build tries again
    with pytest.raises(RuntimeError, match=r"(?s)try_it.py failed:.*try_it.py\", line 17.*NameError"):
        page_of(hook, script, "print(nothing)")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_commands_of_tutorials_exist(hook: ModuleType, script: Path) -> None:
    texts = [cell.text for cell in hook.read_cells(script) if not cell.is_code]
    assert texts[0].startswith("# ")
    commands = [code.partition("```")[0] for text in texts for code in text.split("```bash\n")[1:]]
    assert commands
    for code in commands:
        run(Block(script, 1, "bash", code, "the network"), {})
