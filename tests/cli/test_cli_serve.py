import json
from importlib.util import find_spec

import pytest

from quovadis.errors import DownloadError
from quovadis.runtime.extras import install_command
from quovadis.weights.catalog import DEFAULT_WEIGHTS
from tests.command import run


@pytest.mark.skipif(find_spec("gradio") is not None, reason="gradio is installed")
def test_missing_gradio_is_reported_with_the_install_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--weights", "w.safetensors") == 1
    assert install_command("web") in capsys.readouterr().err


def test_serve_loads_the_default_network(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(weights: object) -> object:
        raise DownloadError(f"cannot fetch {weights}")

    monkeypatch.setattr("quovadis.web.page.import_gradio", lambda: None)
    monkeypatch.setattr("quovadis.inference.recognizer.load_model", load)
    assert run("serve") == 1
    assert f"cannot fetch {DEFAULT_WEIGHTS}" in capsys.readouterr().err


def test_there_is_no_public_sharing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--share") == 2


@pytest.mark.skipif(find_spec("pydantic") is None, reason="needs pydantic, which comes with the extra web")
def test_schema_prints_json_schema(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quovadis.web.page.import_gradio", lambda: None)
    assert run("serve", "--schema") == 0
    schemas = json.loads(capsys.readouterr().out)
    assert "mean_similarity" in schemas["/features"]["properties"]
