import json
from importlib.util import find_spec

import pytest

from quovadis.cli import main
from quovadis.errors import DownloadError
from quovadis.runtime.extras import install_command
from quovadis.weights.catalog import DEFAULT_WEIGHTS


def run(*args: object) -> int:
    """The exit code of a command."""
    try:
        main([str(a) for a in args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.skipif(find_spec("gradio") is not None, reason="gradio is installed")
def test_without_gradio_it_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--weights", "w.safetensors") == 1
    assert install_command("web") in capsys.readouterr().err


def test_the_default_network_is_served(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(weights: object) -> object:
        raise DownloadError(f"cannot fetch {weights}")

    monkeypatch.setattr("quovadis.web.page.import_gradio", lambda: None)
    monkeypatch.setattr("quovadis.inference.recognizer.load_model", load)
    assert run("serve") == 1
    assert f"cannot fetch {DEFAULT_WEIGHTS}" in capsys.readouterr().err


def test_sharing_with_the_world_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--share") == 2


@pytest.mark.skipif(find_spec("pydantic") is None, reason="needs pydantic, which comes with the extra web")
def test_the_schema_can_be_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quovadis.web.page.import_gradio", lambda: None)
    assert run("serve", "--schema") == 0
    schemas = json.loads(capsys.readouterr().out)
    assert "mean_similarity" in schemas["/features"]["properties"]
