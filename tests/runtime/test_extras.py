"""The command that installs an optional part, for every way to install the package itself."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quovadis.runtime import extras
from quovadis.runtime.extras import install_command


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Pretend that pip recorded this source; there is no checkout around the package."""
    monkeypatch.setattr(extras, "_CHECKOUT", tmp_path / "no checkout")

    def record(origin: object) -> None:
        text = origin if origin is None or isinstance(origin, str) else json.dumps(origin)
        found = SimpleNamespace(read_text=lambda name: text if name == "direct_url.json" else None)
        monkeypatch.setattr("importlib.metadata.distribution", lambda name: found)

    return record


@pytest.mark.parametrize(("info", "option"), [({"editable": True}, ["-e"]), ({"editable": False}, []), ({}, [])])
def test_folder_installation_uses_the_folder(
    info: dict[str, bool], option: list[str], installed: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "my code (old)"
    folder.mkdir()
    installed({"url": folder.as_uri(), "dir_info": info})
    assert shlex.split(install_command("web")) == ["pip", "install", *option, f"{folder}[web]"]


def test_archive_and_repository_installations_use_their_url(installed: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "quovadis-1-py3-none-any.whl"
    wheel.write_bytes(b"")
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert shlex.split(install_command("web")) == ["pip", "install", f"quovadis[web] @ {wheel.as_uri()}"]
    installed({"url": "https://example.org/q.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert shlex.split(install_command("hub"))[2:] == ["quovadis[hub] @ git+https://example.org/q.git@abc"]


@pytest.mark.parametrize("origin", [None, "", "{", "[]", {"url": "file:///gone/away", "dir_info": {"editable": True}}])
def test_unknown_source_uses_the_checkout(origin: object, installed: Any) -> None:
    installed(origin)
    assert install_command("web") == "pip install '.[web]'  (in the checkout of quovadis)"


def test_a_checkout_without_installation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_origin", dict)
    root = Path(__file__).parents[2]
    assert shlex.split(install_command("web")) == ["pip", "install", "-e", f"{root}[web]"]


def test_pip_accepts_the_command(installed: Any, tmp_path: Path) -> None:
    """Resolved by pip: the folder and its extra; nothing is installed, and no index is asked."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("needs pip in this environment")
    folder = tmp_path / "my code"
    folder.mkdir()
    build = 'requires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
    (folder / "pyproject.toml").write_text(
        f'[build-system]\n{build}[project]\nname = "p"\nversion = "1"\n[project.optional-dependencies]\nweb = []\n'
    )
    metadata = "Metadata-Version: 2.1\\nName: p\\nVersion: 1\\nProvides-Extra: web\\n"
    (folder / "b.py").write_text(
        "import os\n"
        "def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        "    os.mkdir(os.path.join(folder, 'p-1.dist-info'))\n"
        f"    open(os.path.join(folder, 'p-1.dist-info', 'METADATA'), 'w').write('{metadata}')\n"
        "    open(os.path.join(folder, 'p-1.dist-info', 'WHEEL'), 'w').write('Wheel-Version: 1.0\\n')\n"
        "    return 'p-1.dist-info'\n"
        "def build_wheel(*args):\n    raise NotImplementedError\n"
    )
    installed({"url": folder.as_uri(), "dir_info": {}})
    words = shlex.split(install_command("web"))[1:]
    asked = [sys.executable, "-m", "pip", *words, "--dry-run", "--no-index", "--quiet", "--report", "-"]
    done = subprocess.run(asked, capture_output=True, text=True, env={**os.environ, "PIP_BREAK_SYSTEM_PACKAGES": "1"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["install"][0]["requested_extras"] == ["web"]
