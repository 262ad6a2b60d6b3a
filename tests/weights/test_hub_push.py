"""Tests of pushing weights to the Hugging Face Hub, with a local server."""

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from quovadis.cli import main
from quovadis.errors import DownloadError, InvalidInputError, MissingExtraError, WeightsError
from quovadis.weights import hub as on_hub
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.hub_push import push_weights
from quovadis.weights.load import load_model
from tests.hub_server import TOKEN, Hub, serving_hub
from tests.weights.hub_run import LABELS, bytes_of, stop

# huggingface_hub uploads with a deprecated call of its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


def test_push_uploads_unchanged_weights_and_a_card_in_one_commit(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["weights", "push", str(run), "org/name", "--license", "apache-2.0"])
    commit, files = hub.head()
    assert len(hub.repos["org/name"].commits) == 2
    assert set(files) == {"model.safetensors", "README.md"}
    assert files["model.safetensors"] == bytes_of(run)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{hub.root}/org/name/commit/{commit}",
        f"hf://org/name@{commit}",
    ]


def test_pushed_weights_load_as_the_same_model(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["weights", "push", str(run), "org/name", "--json"])
    pushed = json.loads(capsys.readouterr().out)
    local, loaded = load_model(run), load_model("hf://org/name")
    assert loaded.labels == local.labels == LABELS
    assert loaded.spec == local.spec
    assert all(
        torch.equal(a, b) for a, b in zip(local.state_dict().values(), loaded.state_dict().values(), strict=True)
    )
    assert loaded.source == local.source | {"hub": pushed["address"]}
    assert f"hf://org/name: commit {pushed['commit']}\n" in capsys.readouterr().err
    assert hub.downloads == ["model.safetensors"]


def test_contents_of_the_model_card(hub: Hub, run: Path) -> None:
    main(["weights", "push", str(run), "org/name", "--license", "apache-2.0"])
    card = hub.head()[1]["README.md"].decode()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "quovadis",
        "license": "apache-2.0",
        "pipeline_tag": "video-classification",
        "tags": ["video-classification", "action-recognition", "i3d_tiny"],
    }
    assert json.loads(body.split("json\n")[1].partition("\n````")[0]) == list(LABELS)
    for text in (
        'Recognizer.load("hf://org/name")',
        "quovadis predict video.mp4 --weights hf://org/name",
        "1. sample frames at 25 fps: frame k is",
        "protocol of this network: `ten-clips`",
        "| validation top-1 | 87.5% |",
        "| data fingerprint | 0123abc |",
        "`apache-2.0`",
        on_hub.sha256(run / "best.safetensors"),
    ):
        assert text in body


def test_the_card_takes_its_metrics_from_an_evaluation(hub: Hub, run: Path, tmp_path: Path) -> None:
    result = {
        "dataset": "squares",
        "data_fingerprint": "ffff",
        "split": "test",
        "protocol": "paper: first 250 frames",
        "num_videos": 40,
        "num_unreadable": 1,
        "top1": 0.625,
        "top5": 1.0,
        "mean_class": 0.5,
        "labels": list(LABELS),
    }
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps([result]))
    main(["weights", "push", str(run), "org/name", "--evaluation", str(file)])
    card = hub.head()[1]["README.md"].decode()
    for row in ("protocol | paper: first 250 frames", "data fingerprint | ffff", "top1 | 62.5%", "num unreadable | 1"):
        assert f"| {row} |" in card
    assert "87.5%" not in card
    assert "The author states no license." in card
    for content, problem in (
        ([result, result], "contains 2 results"),
        ([result | {"labels": ["a"]}], "other classes"),
        ([{"top1": 1.0}], "has no dataset, data_fingerprint"),
        (["x"], "was not written by `quovadis evaluate`"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(InvalidInputError, match=problem):
            push_weights(run, "org/name", evaluation=file)
    assert len(hub.repos["org/name"].commits) == 2


@pytest.mark.parametrize("token", [None, "hf_another", "reads only"])
def test_push_without_permission_gives_a_one_line_error(
    token: str | None, hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    elif token == "reads only":
        hub.may_write = False
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SystemExit, match="1"):
        main(["weights", "push", str(run), "org/name"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        {
            None: "error: org/name: pushing requires an access token that can write; run `hf auth login`",
            "hf_another": "error: no model repository org/name at http",
            "reads only": f"error: {hub.root} refused access to org/name (You don't have the rights to create a model",
        }[token]
    )
    assert "hf_another" not in line
    assert hub.repos == {}
    assert token is not None or hub.requests == []


def test_push_refuses_weights_that_cannot_be_loaded(hub: Hub, run: Path, tmp_path: Path) -> None:
    state, info = load_weights(run / "best.safetensors")
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(
        WeightsError, match=r"only safetensors of quovadis can be pushed: quovadis weights convert .*model.pt"
    ):
        push_weights(tmp_path / "model.pt", "org/name")
    save_weights(tmp_path / "wrong", {"a": torch.zeros(1)}, info)
    with pytest.raises(WeightsError, match="does not fit"):
        push_weights(tmp_path / "wrong", "org/name")
    with pytest.raises(WeightsError, match="no weights file at"):
        push_weights(tmp_path / "nothing", "org/name")
    with pytest.raises(WeightsError, match="pushed to the main branch; remove the revision after '@'"):
        push_weights(run, "org/name@v1")
    with pytest.raises(WeightsError, match="'name' is not a valid address of a model"):
        push_weights(run, "name")
    assert hub.requests == []


def test_push_without_a_connection_gives_a_one_line_error(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch)
    with pytest.raises(DownloadError, match=r"^hf://org/name: http://127.0.0.1:9 cannot be reached \(.+\)$"):
        push_weights(run, "org/name")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"^hf://org/name: offline, because HF_HUB_OFFLINE is set$"):
        push_weights(run, "org/name")


def test_a_failed_xet_upload_gives_a_one_line_error(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*args: object, **options: object) -> None:
        raise ConnectionError("Network error: error decoding response body\nsecond line")

    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", give_up)
    with pytest.raises(DownloadError, match=r"^hf://org/name: Network error: .* body; .* set HF_HUB_DISABLE_XET=1$"):
        push_weights(run, "org/name")


def test_push_to_an_existing_repository_keeps_privacy_and_card(hub: Hub, run: Path) -> None:
    push_weights(run, "hf://org/name", private=True)
    assert hub.repos["org/name"].private
    hub.add("org/name", README__md=b"by hand")
    push_weights(run, "org/name", keep_card=True)
    assert hub.head()[1] == {"model.safetensors": bytes_of(run), "README.md": b"by hand"}
    push_weights(run, "org/name")
    assert b"library_name: quovadis" in hub.head()[1]["README.md"]


def test_environment_variables_of_huggingface_hub_are_used(run: Path, tmp_path: Path) -> None:
    """Run in a new process, because huggingface_hub reads the variables at import."""
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    script = """
import sys
from quovadis import load_model
from quovadis.cli import main
main(["weights", "push", sys.argv[1], "org/name"])
print(load_model("hf://org/name").source["hub"])
"""
    with serving_hub() as server:
        own = {"HF_ENDPOINT": server.root, "HF_HOME": str(tmp_path), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | own
        command = [sys.executable, "-c", script, str(run)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        *_, pushed, loaded = done.stdout.splitlines()
        assert pushed == loaded == f"hf://org/name@{server.head()[0]}"
    assert (tmp_path / "hub" / "models--org--name").is_dir()


def test_a_missing_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name.partition(".")[0] == "huggingface_hub":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"need an optional part: pip install .*\[hub\]"):
        push_weights(run, "org/name")
