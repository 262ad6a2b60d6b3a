"""Tests of loading weights from the Hugging Face Hub, with a local server."""

import builtins
import io
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

import quovadis
from quovadis.cli import main
from quovadis.errors import DownloadError, MissingExtraError, StorageError, WeightsError
from quovadis.weights.conversion import convert
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.hub import HubAddress, is_hub_address
from quovadis.weights.info import WeightsInfo
from quovadis.weights.load import load_model, resolve_weights
from tests.hub_server import TOKEN, Hub
from tests.weights.hub_run import LABELS, bytes_of, stop


def test_revisions_are_pinned(hub: Hub, run: Path, tmp_path: Path) -> None:
    repo = hub.add("org/name", model__safetensors=bytes_of(run))
    first = repo.refs["main"]
    repo.refs["v1"] = first
    state, info = load_weights(run / "best.safetensors")
    other = save_weights(tmp_path / "other", state, WeightsInfo(info.model, info.options, ("a", "b", "c"))).read_bytes()
    second = hub.add("org/name", model__safetensors=other).refs["main"]
    repo.refs["refs/pr/1"] = first
    for revision, commit in (
        ("", second),
        ("@main", second),
        ("@v1", first),
        (f"@{first}", first),
        ("@refs/pr/1", first),
    ):
        model = load_model(f"hf://org/name{revision}")
        assert model.source["hub"] == f"hf://org/name@{commit}"
        assert model.labels == (LABELS if commit == first else ("a", "b", "c"))
    hub.requests.clear()
    assert load_model(f"hf://org/name@{first}").source["hub"] == f"hf://org/name@{first}"
    assert hub.requests == []  # a cached commit needs no request
    with pytest.raises(DownloadError, match=r"org/name at http.* has no revision 'v2'$"):
        load_model("hf://org/name@v2")


def test_a_branch_is_resolved_at_every_load(hub: Hub, run: Path) -> None:
    first = hub.add("org/name", best__safetensors=bytes_of(run)).refs["main"]
    assert load_model("hf://org/name").source["hub"] == f"hf://org/name@{first}"
    second = hub.add("org/name", README__md=b"news").refs["main"]
    assert load_model("hf://org/name").source["hub"] == f"hf://org/name@{second}"


@pytest.mark.parametrize("how", ["offline mode", "no connection", "out of order"])
def test_without_the_hub_the_cached_revision_is_used(
    how: str, hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = hub.add("org/name", model__safetensors=bytes_of(run)).refs["main"]
    load_model("hf://org/name")
    hub.requests.clear()
    if how == "offline mode":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    elif how == "no connection":
        stop(monkeypatch)
    else:
        hub.status = 503
    capsys.readouterr()
    assert load_model("hf://org/name").source["hub"] == f"hf://org/name@{commit}"
    said = capsys.readouterr().err
    reason = "HF_HUB_OFFLINE is set" if how == "offline mode" else "cannot be reached ("
    assert said.startswith(f"hf://org/name: commit {commit}, from the cache: ")
    assert reason in said
    assert said.count("\n") == 1
    for address in ("hf://org/other", "hf://org/name@v1"):
        with pytest.raises(DownloadError, match=f"^{address}: .*, and this revision is not in the cache; ") as caught:
            load_model(address)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
    assert how == "out of order" or hub.requests == []


@pytest.mark.parametrize("token", [TOKEN, None, "hf_another"])
def test_missing_and_private_repositories_give_a_one_line_error(
    token: str | None, hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/private", model__safetensors=bytes_of(run)).private = True
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    about = (
        "no access token is set; run `hf auth login`" if token is None else "check the name, and that the access token"
    )
    for name in ("org/missing", "org/private"):
        if (name, token) == ("org/private", TOKEN):
            assert load_model(f"hf://{name}").labels == LABELS
            continue
        with pytest.raises(
            DownloadError, match=f"^no model repository {name} at http.*, or it is private: {about}"
        ) as e:
            load_model(f"hf://{name}")
        assert "\n" not in str(e.value)
        assert TOKEN not in str(e.value)


def test_gated_repositories_give_a_one_line_error(hub: Hub, run: Path) -> None:
    hub.add("org/name", model__safetensors=bytes_of(run)).gated = True
    with pytest.raises(DownloadError, match=r"^org/name is gated: accept its terms at http.*/org/name, then log in"):
        load_model("hf://org/name")


WRONG = """
hf:// hf://name hf://org/name/model.safetensors hf://org/ hf:///name hf://o/../n hf://org/na--me hf://org/name.git
hf://org/name@ hf://org/name@.. hf://@v1 hf://org/name@../../x hf://org/name@/etc hf:/name
"""


@pytest.mark.parametrize("text", [*WRONG.split(), "hf://org/na me", "hf://org/name@a b", "hf://org/name\n"])
def test_invalid_addresses_are_refused_without_a_request(text: str, hub: Hub) -> None:
    for path in (text, Path(text)) if "//" in text and "@" not in text else (text,):
        with pytest.raises(WeightsError) as caught:
            load_model(path)
        assert "\n" not in str(caught.value).replace(repr(text), "")
    assert hub.requests == []


def test_an_address_may_be_a_path(hub: Hub, run: Path) -> None:
    hub.add("org/name", model__safetensors=bytes_of(run))
    assert is_hub_address(str(Path("hf://org/name@main")))
    assert load_model(Path("hf://org/name@main")).labels == LABELS
    assert str(HubAddress.parse("hf:/org/name@main")) == "hf://org/name@main"


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("a-pickle-was-run",)


def test_pickles_and_code_are_never_downloaded(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps({"a": Bomb()})
    hub.add("org/name", pytorch_model__bin=bomb, model__pt=bomb, modeling__py=b"import os", config__json=b"{}")
    with pytest.raises(
        WeightsError, match=r"contains no model.safetensors or best.safetensors, only pickles \(pytorch_mod"
    ):
        load_model("hf://org/name")
    assert hub.downloads == []
    hub.add("org/empty", README__md=b"nothing")
    with pytest.raises(WeightsError, match=r"hf://org/empty contains no model.safetensors or best.safetensors; "):
        load_model("hf://org/empty")
    hub.add("org/name", model__safetensors=bytes_of(run))
    load_model("hf://org/name")
    assert hub.downloads == ["model.safetensors"]
    torch_file = io.BytesIO()
    torch.save({"a": Bomb()}, torch_file)
    for name, content in (("bare", bomb), ("zip", torch_file.getvalue()), ("short", b""), ("page", b"<html>")):
        hub.add(f"org/{name}", model__safetensors=content)
        with pytest.raises(WeightsError, match=f"hf://org/{name}: model.safetensors is not a safetensors file: "):
            load_model(f"hf://org/{name}")
    assert not (tmp_path / "a-pickle-was-run").exists()


def test_safetensors_of_other_projects_are_refused(hub: Hub) -> None:
    from safetensors.torch import save

    hub.add("org/name", model__safetensors=save({"a": torch.zeros(1)}, {"format": "pt"}))
    with pytest.raises(WeightsError, match=r"model.safetensors was not written by quovadis: its header does not state"):
        load_model("hf://org/name")


def test_a_damaged_file_in_the_cache_is_refused(hub: Hub, run: Path) -> None:
    hub.add("org/name", model__safetensors=bytes_of(run))
    file, _ = resolve_weights("hf://org/name")
    if not file.is_symlink():
        pytest.skip("no symbolic links here, so the cache does not keep checksums")
    damaged = bytearray(bytes_of(run))
    damaged[-1] ^= 1
    file.resolve().write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"is damaged: its checksum is .*; expected .*. Delete the file and load it"):
        load_model("hf://org/name")
    file.resolve().unlink()
    assert load_model("hf://org/name").labels == LABELS


def test_a_read_only_cache_gives_a_one_line_error(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/name", model__safetensors=bytes_of(run))
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(StorageError, match=r"^hf://org/name: .*file.*: Not a directory$"):
        load_model("hf://org/name")


def test_an_invalid_endpoint_gives_a_one_line_error(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "no scheme")
    with pytest.raises(DownloadError, match=r"^hf://org/name: .*no scheme.* not in the cache") as caught:
        load_model("hf://org/name")
    assert "\n" not in str(caught.value)


def test_commands_accept_an_address(
    hub: Hub, run: Path, tmp_path: Path, clip_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = hub.add("org/name", model__safetensors=bytes_of(run)).refs["main"]
    main(["predict", str(clip_path), "--json", "--weights", "hf://org/name@main"])
    assert "schwimmen" in capsys.readouterr().out
    main(["weights", "show", "hf://org/name", "--json"])
    assert json.loads(capsys.readouterr().out)["labels"] == list(LABELS)
    assert convert("hf://org/name", tmp_path / "copy.safetensors").source["hub"] == f"hf://org/name@{commit}"
    assert load_model(tmp_path / "copy.safetensors").source["hub"] == f"hf://org/name@{commit}"
    assert quovadis.create_model("i3d_tiny", num_classes=3, weights="hf://org/name").labels == LABELS
    main(["extract", str(clip_path), "--weights", "hf://org/name", "--out", str(tmp_path / "features")])
    with pytest.raises(SystemExit, match="1"):
        main(["weights", "verify", "hf://org/name"])
    with pytest.raises(SystemExit, match="1"):
        main(["predict", str(clip_path), "--weights", "hf://org/none"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: no model repository org/none at http")


def test_a_missing_extra_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name.partition(".")[0] == "huggingface_hub":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"need an optional part: pip install .*\[hub\]"):
        load_model("hf://org/name")
    assert load_model(run).labels == LABELS
