"""The HTTP API of a running server, called with the standard library only."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from quovadis.errors import InvalidInputError
from quovadis.version import __version__
from quovadis.web.page import serve_page
from tests.web.conftest import LABELS, Served, gif_bomb, long_video, save_tiny, serve

pytestmark = pytest.mark.slow

_SECONDS = 120


def post(url: str, body: bytes, kind: str) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        return json.load(answer)


def upload(server: Served, path: Path, name: str | None = None) -> dict[str, Any]:
    edge = "quovadis-edge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name or path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    (stored,) = post(f"{server.url}gradio_api/upload", body, f"multipart/form-data; boundary={edge}")
    return {"path": stored, "meta": {"_type": "gradio.FileData"}}


def call(server: Served, endpoint: str, *data: Any) -> tuple[str, Any]:
    """Return the final event, ``complete`` or ``error``, and its data."""
    root = f"{server.url}gradio_api/call/{endpoint}"
    event = post(root, json.dumps({"data": data}).encode(), "application/json")["event_id"]
    with urllib.request.urlopen(f"{root}/{event}", timeout=_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    ends = [i for i, line in enumerate(lines) if line in ("event: complete", "event: error")]
    assert len(ends) == 1
    return lines[ends[0]].removeprefix("event: "), json.loads(lines[ends[0] + 1].removeprefix("data: "))


def label_at(seconds: float, recognition: dict[str, Any]) -> str:
    (label,) = {
        s["label"] for s in recognition["timeline"]["segments"] if s["start_seconds"] <= seconds < s["stop_seconds"]
    }
    return str(label)


def test_recognize(server: Served, clip: Path) -> None:
    how, (answer,) = call(server, "recognize", upload(server, clip), "")
    assert how == "complete"
    assert answer["schema"] == "quovadis.recognition/2"
    assert {c["label"] for c in answer["top"]} == set(LABELS)
    assert answer["video"]["name"] == "clip.mp4"
    segments = answer["timeline"]["segments"]
    assert segments[0]["start_seconds"] == 0
    assert segments[-1]["stop_seconds"] == pytest.approx(2.0)


def test_health(server: Served) -> None:
    with urllib.request.urlopen(f"{server.url}health", timeout=_SECONDS) as answer:
        assert json.load(answer) == {"status": "ok", "version": __version__, "models": ["rgb", "compare:rgb"]}


def test_a_proxy_that_removes_a_path(tmp_path: Path, clip: Path) -> None:
    options = ("--root-path", "/actions/", "--allowed-hosts", "video.example.org")
    forwarded = {"X-Forwarded-Host": "video.example.org", "X-Forwarded-Proto": "https"}
    with serve(tmp_path, "--weights", save_tiny(tmp_path / "a.safetensors", 0), *options) as served:
        for headers in (forwarded, forwarded | {"Host": "video.example.org"}):
            request = urllib.request.Request(f"{served.url}config", headers=headers)
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                assert json.load(answer)["root"] == "https://video.example.org/actions"
        assert call(served, "recognize", upload(served, clip), "")[0] == "complete"


def test_a_root_path_must_be_a_path() -> None:
    pytest.importorskip("gradio", reason="needs gradio: pip install '.[web]'")
    with (
        pytest.raises(InvalidInputError, match="must be a path such as /actions; got 'actions'"),
        serve_page(None, None, root_path="actions"),
    ):
        pass


def test_compare_and_features(server: Served, clip: Path) -> None:
    video = upload(server, clip)
    how, (answer,) = call(server, "compare", video, "rgb", "compare:rgb")
    assert how == "complete"
    assert answer["first"]["top"] != answer["second"]["top"]
    middles = [(i + 0.5) / 500 for i in range(1000)]  # of 2 seconds
    same = [label_at(s, answer["first"]) == label_at(s, answer["second"]) for s in middles]
    assert answer["agreement"] == pytest.approx(sum(same) / len(same), abs=0.01)
    _, (answer,) = call(server, "compare", video, "rgb", "rgb")
    assert answer["first"]["top"] == answer["second"]["top"]
    assert answer["agreement"] == 1
    how, (answer,) = call(server, "features", video, video, "")
    assert how == "complete"
    assert answer["mean_similarity"] == pytest.approx(1)
    assert len(answer["similarity"]) == len(answer["first_center_seconds"])


def test_errors_have_messages_and_the_next_upload_works(server: Served, clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video\n" * 100)
    for path, words in (
        (text, "notes.mp4 is not a video"),
        (long_video(tmp_path / "long.mp4"), "long.mp4 is 2:00:00 long; the limit is 1:00"),
        (
            gif_bomb(tmp_path / "bomb.gif"),
            "bomb.gif has frames that are damaged or larger than the limit of 9.5 million pixels",
        ),
    ):
        how, answer = call(server, "recognize", upload(server, path), "")
        assert how == "error"
        assert words in json.dumps(answer)
        assert str(server.folder) not in json.dumps(answer)
    how, answer = call(server, "recognize", None, "")
    assert how == "error"
    assert "a video is missing" in json.dumps(answer)
    assert call(server, "recognize", upload(server, clip), "")[0] == "complete"


def test_a_file_that_is_too_large_is_not_stored(server: Served, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(b"0123456789abcdef" * (3 * 2**16))
    with pytest.raises(urllib.error.HTTPError) as caught:
        upload(server, large)
    with caught.value as error:
        assert error.code == 413
    assert not [f for f in server.folder.rglob("*") if f.is_file() and f.stat().st_size >= large.stat().st_size]


def test_local_files_cannot_be_requested(server: Served) -> None:
    how, _ = call(server, "recognize", {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}, "")
    assert how == "error"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.url}gradio_api/file=/etc/hostname", timeout=_SECONDS)
    with caught.value as error:
        assert error.code in (403, 404)


@pytest.mark.parametrize(
    "route", ["upload", "call/recognize", "call/v2/recognize", "queue/join", "run/recognize", "reset", "cancel", "none"]
)
def test_cross_site_requests_are_rejected(route: str, server: Served) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        request = urllib.request.Request(f"{server.url}gradio_api/{route}", b"{}", headers)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=_SECONDS)
        with caught.value as error:
            assert error.code == 403
            assert "not allowed" in error.read().decode()


def test_playlists_are_rejected_with_a_message(server: Served, clip: Path, tmp_path: Path) -> None:
    playlists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {clip}\n",
    }
    for name in ("list.m3u8", "list.mp4"):
        for kind, text in playlists.items():
            path = tmp_path / kind / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            how, answer = call(server, "recognize", upload(server, path), "")
            assert how == "error"
            assert name in json.dumps(answer)
            assert str(clip) not in json.dumps(answer)


def test_many_concurrent_requests(server: Served, clip: Path) -> None:
    videos = [upload(server, clip, f"v{i}.mp4") for i in range(44)]

    def ask(video: dict[str, Any]) -> str:
        try:
            how, answer = call(server, "recognize", video, "")
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.read().decode()}"
        return how if how == "complete" else json.dumps(answer)

    with ThreadPoolExecutor(44) as pool:
        answers = list(pool.map(ask, videos))
    assert answers.count("complete") >= 32  # the size of the queue
    assert all(a == "complete" or "full" in a.lower() for a in answers), answers
    assert call(server, "recognize", videos[0], "")[0] == "complete"
