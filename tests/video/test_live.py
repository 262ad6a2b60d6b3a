"""Streams: from a server of our own, from files, and from what is not there."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quovadis.errors import InvalidInputError, VideoError, VideoNotFoundError
from quovadis.video.live import LiveStream, Tick, public_name
from quovadis.video.reader import VideoReader
from quovadis.video.writer import LOSSLESS, write_video
from tests.http_server import Server, serving
from tests.synthetic import moving_square

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2,\n{file}\n#EXT-X-ENDLIST\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("streams")
    frames = moving_square(60, 48, 64)
    with serving() as server:
        for name in ("v.mkv", "v.ts"):
            path = write_video(folder / name, frames, fps=30, options={"g": "12", "preset": "ultrafast"})
            server.files[f"/{name}"] = path.read_bytes()
            server.files[f"/{name}.path"] = str(path).encode()
        yield server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have waited; it does not."""
    waited: list[float] = []
    monkeypatch.setattr("quovadis.video.live.time", SimpleNamespace(sleep=waited.append))
    return waited


def pixels(ticks: list[Tick]) -> torch.Tensor:
    return torch.stack([t.frame.pixels for t in ticks])


@pytest.mark.parametrize("name", ["v.mkv", "v.ts"])
@pytest.mark.parametrize("fps", [25.0, 12.0, 50.0])
def test_an_address_gives_the_frames_of_the_file(server: Server, name: str, fps: float) -> None:
    stream = LiveStream(f"{server.root}/{name}")
    assert not stream.is_live
    ticks = list(stream.ticks(fps))
    with VideoReader(server.files[f"/{name}.path"].decode()) as reader:
        expected = torch.stack([frame.pixels for _, frame in reader.ticks(fps)])
    assert torch.equal(pixels(ticks), expected)
    assert [t.number for t in ticks] == list(range(len(expected)))
    assert [t.fresh for t in ticks] == [True] + [False] * (len(expected) - 1)
    assert ticks[5].seconds == pytest.approx(5 / fps)


def test_a_file_is_itself(tmp_path: Path) -> None:
    frames = moving_square(20, 40, 48)
    stream = LiveStream(str(write_video(tmp_path / "v.mp4", frames, fps=25, **LOSSLESS)))
    assert not stream.is_live
    assert torch.equal(pixels(list(stream.ticks(25.0))), frames)


def test_a_stream_that_breaks_off_is_asked_for_again(server: Server, waits: list[float]) -> None:
    notes: list[str] = []
    server.script = ["no length", "hang up", "404", "no length", "404", "404", "404"]
    stream = LiveStream(f"{server.root}/v.ts", reconnect=3, on_note=notes.append)
    assert stream.is_live
    ticks: list[Tick] = []

    def take() -> None:
        for tick in stream.ticks(25.0):
            ticks.append(tick)  # noqa: PERF402  (what came before the error is kept)

    with pytest.raises(VideoError, match=r"v\.ts broke off: Server returned 404"):
        take()
    # A try that gives frames sets the count of failures, and so the waiting, back.
    assert waits == [1.0, 2.0, 4.0, 1.0, 2.0, 4.0]
    assert len(notes) == 6
    assert len([t for t in ticks if t.fresh]) == 2
    assert [t.number for t in ticks] == list(range(len(ticks)))


def test_what_is_not_there_says_what_to_look_at(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"none\.ts cannot be opened: Server returned 404 Not Found; is the address"):
        LiveStream(f"{server.root}/none.ts")
    with pytest.raises(VideoError, match=r"^rtsp://127\.0\.0\.1:9/x cannot be opened") as caught:
        LiveStream("rtsp://me:secret@127.0.0.1:9/x?key=1", timeout_seconds=2)
    assert "secret" not in str(caught.value)
    with pytest.raises(VideoError, match="is it plugged in"):
        LiveStream("camera:77")
    with pytest.raises(VideoNotFoundError):
        LiveStream(str(tmp_path / "none.mp4"))
    with pytest.raises(InvalidInputError, match="timeout_seconds"):
        LiveStream("x.mp4", timeout_seconds=0)


def test_a_playlist_of_addresses_is_followed(server: Server) -> None:
    server.files["/live.m3u8"] = HLS.format(file="v.ts").encode()
    ticks = list(LiveStream(f"{server.root}/live.m3u8").ticks(25.0))
    assert torch.equal(pixels(ticks), pixels(list(LiveStream(f"{server.root}/v.ts").ticks(25.0))))


@pytest.mark.parametrize(
    "prefix", ["", "file:", "file://", "crypto:", "crypto+file:", "subfile,,start,0,end,0,,:", "concat:"]
)
def test_an_address_cannot_name_files_of_this_machine(server: Server, prefix: str) -> None:
    path = server.files["/v.ts.path"].decode()
    key = '#EXT-X-KEY:METHOD=AES-128,URI="{}",IV=0x0\n#EXTINF'
    texts = {
        "/hls.m3u8": HLS.format(file=f"{prefix}{path}"),
        "/key.m3u8": HLS.format(file="v.ts").replace("#EXTINF", key.format(f"{prefix}{path}")),
        "/concat.mp4": f"ffconcat version 1.0\nfile '{prefix}{path}'\noption safe 0\n",
        "/sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 0 RTP/AVP 96\n",
    }
    server.files |= {name: text.encode() for name, text in texts.items()}
    for name in texts:
        with pytest.raises(VideoError):
            list(LiveStream(f"{server.root}{name}", timeout_seconds=5, reconnect=0).ticks(25.0))


@pytest.mark.parametrize(
    "source",
    ["file:///etc/hostname", "concat://a|b", "crypto+http://127.0.0.1/x", "sap://x", "data://x", "FILE:///x"],
)
def test_an_address_of_another_kind_is_refused(source: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a supported address; expected a file, or one of http, https"):
        LiveStream(source)


def test_names_without_secrets() -> None:
    assert public_name("rtsp://a:b@[::1]:554/s?t=1#f") == "rtsp://[::1]:554/s"
    assert public_name("camera:0") == "camera:0"
    assert public_name("C:\\v.mp4") == "C:\\v.mp4"
