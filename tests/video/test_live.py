"""Streams: from a server of our own, from files, and from what is not there."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from quovadis.errors import InvalidInputError, VideoError, VideoNotFoundError
from quovadis.video.frame import VideoFrame
from quovadis.video.live import LiveFrame, LiveStream, _on_screen, public_name
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


def pixels(ticks: list[LiveFrame]) -> torch.Tensor:
    return torch.stack([t.frame.pixels for t in ticks])


@pytest.mark.parametrize("name", ["v.mkv", "v.ts"])
@pytest.mark.parametrize("fps", [25.0, 12.0, 50.0])
def test_an_address_gives_the_frames_of_the_file(server: Server, name: str, fps: float) -> None:
    stream = LiveStream(f"{server.root}/{name}")
    assert not stream.is_live
    ticks = list(stream.frames(fps))
    with VideoReader(server.files[f"/{name}.path"].decode()) as reader:
        expected = torch.stack([frame.pixels for _, frame in reader.resampled_frames(fps)])
    assert torch.equal(pixels(ticks), expected)
    assert [t.number for t in ticks] == list(range(len(expected)))
    assert [t.fresh for t in ticks] == [True] + [False] * (len(expected) - 1)
    assert ticks[5].seconds == pytest.approx(5 / fps)


def test_a_file_is_itself(tmp_path: Path) -> None:
    frames = moving_square(20, 40, 48)
    stream = LiveStream(str(write_video(tmp_path / "v.mp4", frames, fps=25, **LOSSLESS)))
    assert not stream.is_live
    assert torch.equal(pixels(list(stream.frames(25.0))), frames)


Shown = list[tuple[int, float, bool]]


def on_screen(*frames: tuple[float, int], fps: float = 10.0) -> Shown:
    """Ticks, time and ``fresh`` for frames of 0.1 s at (seconds, width)."""
    made = (SimpleNamespace(pts_seconds=t, end_seconds=t + 0.1, stored_size=(width, 48)) for t, width in frames)
    shown = _on_screen(cast(Iterator[VideoFrame], made), fps)
    return [(count, frame.pts_seconds, fresh) for count, frame, fresh in shown]


def test_a_clock_that_jumps_begins_a_stretch() -> None:
    steady = [(1, 5.0, True), (1, 5.1, False)]
    # Forward by 10 s or more; below that the frame stays on screen.
    assert on_screen((5.0, 64), (5.1, 64), (15.1, 64), (15.2, 64)) == [*steady, (1, 15.1, True), (1, 15.2, False)]
    assert on_screen((5.0, 64), (5.1, 64), (15.0, 64)) == [(1, 5.0, True), (99, 5.1, False), (1, 15.0, False)]
    # Back by any time, and a clock that stands still.
    assert on_screen((5.0, 64), (5.1, 64), (5.05, 64), (5.15, 64)) == [*steady, (1, 5.05, True), (1, 5.15, False)]
    assert on_screen((5.0, 64), (5.1, 64), (0.0, 64), (0.1, 64)) == [*steady, (1, 0.0, True), (1, 0.1, False)]
    assert on_screen((5.0, 64), (5.1, 64), (5.1, 64)) == [*steady, (1, 5.1, True)]


def test_a_picture_of_another_size_begins_a_stretch() -> None:
    assert on_screen((0.0, 64), (0.1, 64), (0.2, 80), (0.3, 80)) == [
        *[(1, 0.0, True), (1, 0.1, False)],
        *[(1, 0.2, True), (1, 0.3, False)],
    ]


def test_a_stretch_is_fresh_until_a_frame_of_it_is_shown() -> None:
    # A frame that ends before half a tick is not shown, unless it is the only one.
    assert on_screen((0.0, 64), (0.01, 64), (0.1, 64)) == [(1, 0.01, True), (1, 0.1, False)]
    assert on_screen((3.0, 64), (9.0, 80), (9.01, 64)) == [(1, 3.0, True), (1, 9.0, True), (1, 9.01, True)]
    assert on_screen((3.0, 64), fps=2.0) == [(1, 3.0, True)]


def test_ticks_count_from_the_first_frame_of_a_stretch() -> None:
    first, second = [(1, 3.10, True), (1, 3.14, False)], [(1, 30.06, True), (1, 30.10, False)]
    assert on_screen((3.06, 64), (3.10, 64), (3.14, 64)) == first
    assert on_screen((3.06, 64), (3.10, 64), (3.14, 64), (30.02, 64), (30.06, 64), (30.10, 64)) == [*first, *second]


def stretches(ticks: list[LiveFrame]) -> list[int]:
    return [t.number for t in ticks if t.fresh]


def test_streams_with_a_jump_and_with_two_sizes(server: Server) -> None:
    folder = Path(server.files["/v.ts.path"].decode()).parent
    fast = {"preset": "ultrafast"}

    def part(name: str, width: int, start: float) -> bytes:
        times = [start + k / 25 for k in range(10)]
        frames = moving_square(10, 48, width)
        return write_video(folder / name, frames, fps=25, pts_seconds=times, options=fast).read_bytes()

    first = part("one.ts", 64, 0.0)
    server.files |= {"/jump.ts": first + part("two.ts", 64, 100.0), "/size.ts": first + part("three.ts", 80, 0.4)}
    for name, widths in (("jump", {64}), ("size", {64, 80})):
        ticks = list(LiveStream(f"{server.root}/{name}.ts").frames(25.0))
        assert stretches(ticks) == [0, 10], name
        assert [t.number for t in ticks] == list(range(20))
        assert {t.frame.stored_size[0] for t in ticks} == widths


def test_a_stream_that_breaks_off_is_asked_for_again(server: Server, waits: list[float]) -> None:
    notes: list[str] = []
    server.script = ["no length", "hang up", "404", "no length", "404", "404", "404"]
    stream = LiveStream(f"{server.root}/v.ts", reconnect=3, on_note=notes.append)
    assert stream.is_live
    ticks: list[LiveFrame] = []

    def take() -> None:
        for tick in stream.frames(25.0):
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
    ticks = list(LiveStream(f"{server.root}/live.m3u8").frames(25.0))
    assert torch.equal(pixels(ticks), pixels(list(LiveStream(f"{server.root}/v.ts").frames(25.0))))


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
            list(LiveStream(f"{server.root}{name}", timeout_seconds=5, reconnect=0).frames(25.0))


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
