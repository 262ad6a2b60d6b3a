"""Where the cache is, whatever the environment says."""

from pathlib import Path

import pytest

from quovadis.runtime.cache import cache_folder
from quovadis.weights.download import cache_folder as weights_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("QUOVADIS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path / "home"


@pytest.mark.skipif("sys.platform != 'linux'", reason="the folders of Linux")
@pytest.mark.parametrize("value", [None, "", " ", "relative", "./here", "~/there"])
def test_relative_xdg_cache_home_is_ignored(value: str | None, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_folder() == home / ".cache" / "quovadis"
    assert weights_folder() == home / ".cache" / "quovadis" / "weights"


@pytest.mark.skipif("sys.platform != 'linux'", reason="the folders of Linux")
def test_default_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "quovadis"


def test_quovadis_cache_has_precedence(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    for value, folder in {"~/mine": home / "mine", "mine": tmp_path / "mine", "": None}.items():
        monkeypatch.setenv("QUOVADIS_CACHE", value)
        monkeypatch.chdir(tmp_path)
        assert folder is None or cache_folder() == folder
        assert weights_folder() == cache_folder() / "weights"
