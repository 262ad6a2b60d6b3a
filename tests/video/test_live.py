"""Live streams: from a local HTTP server, from files, and from sources that do not exist."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from quovadis.errors import InvalidInputError, VideoError, VideoNotFoundError
from quovadis.video.frame import VideoFrame
from quovadis.video.live import LiveFrame, LiveStream, _count_repeats, public_name
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
    """Record the waiting times instead of sleeping."""
    waited: list[float] = []
    monkeypatch.setattr("quovadis.video.live.time", SimpleNamespace(sleep=waited.append))
    return waited


def pixels(shown: list[LiveFrame]) -> torch.Tensor:
    return torch.stack([t.frame.pixels for t in shown])


@pytest.mark.parametrize("name", ["v.mkv", "v.ts"])
@pytest.mark.parametrize("fps", [25.0, 12.0, 50.0])
def test_url_yields_the_frames_of_the_file(server: Server, name: str, fps: float) -> None:
    stream = LiveStream(f"{server.root}/{name}")
    assert not stream.is_live
    shown = list(stream.frames(fps))
    with VideoReader(server.files[f"/{name}.path"].decode()) as reader:
        expected = torch.stack([frame.pixels for _, frame in reader.resampled_frames(fps)])
    assert torch.equal(pixels(shown), expected)
    assert [t.number for t in shown] == list(range(len(expected)))
    assert [t.restarted for t in shown] == [True] + [False] * (len(expected) - 1)
    assert shown[5].seconds == pytest.approx(5 / fps)


def test_file_yields_its_frames(tmp_path: Path) -> None:
    frames = moving_square(20, 40, 48)
    stream = LiveStream(str(write_video(tmp_path / "v.mp4", frames, fps=25, **LOSSLESS)))
    assert not stream.is_live
    assert torch.equal(pixels(list(stream.frames(25.0))), frames)


Repeats = list[tuple[int, float, bool]]


def repeats(*frames: tuple[float, int], fps: float = 10.0) -> Repeats:
    """Repeats, time and ``restarted`` of frames of 0.1 s at (seconds, width)."""
    made = (SimpleNamespace(pts_seconds=t, end_seconds=t + 0.1, stored_size=(width, 48)) for t, width in frames)
    counted = _count_repeats(cast(Iterator[VideoFrame], made), fps)
    return [(count, frame.pts_seconds, restarted) for count, frame, restarted in counted]


def test_timestamp_jump_restarts_the_stream() -> None:
    steady = [(1, 5.0, True), (1, 5.1, False)]
    # Forward by 10 s or more; for smaller gaps the frame is repeated.
    assert repeats((5.0, 64), (5.1, 64), (15.1, 64), (15.2, 64)) == [*steady, (1, 15.1, True), (1, 15.2, False)]
    assert repeats((5.0, 64), (5.1, 64), (15.0, 64)) == [(1, 5.0, True), (99, 5.1, False), (1, 15.0, False)]
    # Backward by any time, and equal timestamps.
    assert repeats((5.0, 64), (5.1, 64), (5.05, 64), (5.15, 64)) == [*steady, (1, 5.05, True), (1, 5.15, False)]
    assert repeats((5.0, 64), (5.1, 64), (0.0, 64), (0.1, 64)) == [*steady, (1, 0.0, True), (1, 0.1, False)]
    assert repeats((5.0, 64), (5.1, 64), (5.1, 64)) == [*steady, (1, 5.1, True)]


def test_change_of_frame_size_restarts_the_stream() -> None:
    assert repeats((0.0, 64), (0.1, 64), (0.2, 80), (0.3, 80)) == [
        *[(1, 0.0, True), (1, 0.1, False)],
        *[(1, 0.2, True), (1, 0.3, False)],
    ]


def test_first_shown_frame_after_a_restart_is_marked() -> None:
    # A frame that ends before the middle of its interval is not shown, unless it is the only one.
    assert repeats((0.0, 64), (0.01, 64), (0.1, 64)) == [(1, 0.01, True), (1, 0.1, False)]
    assert repeats((3.0, 64), (9.0, 80), (9.01, 64)) == [(1, 3.0, True), (1, 9.0, True), (1, 9.01, True)]
    assert repeats((3.0, 64), fps=2.0) == [(1, 3.0, True)]


def test_time_grid_starts_at_the_first_frame_after_a_restart() -> None:
    first, second = [(1, 3.10, True), (1, 3.14, False)], [(1, 30.06, True), (1, 30.10, False)]
    assert repeats((3.06, 64), (3.10, 64), (3.14, 64)) == first
    assert repeats((3.06, 64), (3.10, 64), (3.14, 64), (30.02, 64), (30.06, 64), (30.10, 64)) == [*first, *second]


def restarts(shown: list[LiveFrame]) -> list[int]:
    return [t.number for t in shown if t.restarted]


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
        shown = list(LiveStream(f"{server.root}/{name}.ts").frames(25.0))
        assert restarts(shown) == [0, 10], name
        assert [t.number for t in shown] == list(range(20))
        assert {t.frame.stored_size[0] for t in shown} == widths
        assert all(t.frame.pixels.shape[2] == t.frame.stored_size[0] for t in shown)


def test_lost_connection_is_reestablished(server: Server, waits: list[float]) -> None:
    notes: list[str] = []
    server.script = ["no length", "hang up", "404", "no length", "404", "404", "404"]
    stream = LiveStream(f"{server.root}/v.ts", reconnect=3, on_note=notes.append)
    assert stream.is_live
    shown: list[LiveFrame] = []

    def take() -> None:
        for frame in stream.frames(25.0):
            shown.append(frame)  # noqa: PERF402  (keep the frames before the error)

    with pytest.raises(VideoError, match=r"lost the connection to http.*v\.ts: Server returned 404"):
        take()
    # An attempt that yields frames resets the count of failures and thereby the waiting time.
    assert waits == [1.0, 2.0, 4.0, 1.0, 2.0, 4.0]
    assert len(notes) == 6
    assert len([t for t in shown if t.restarted]) == 2
    assert [t.number for t in shown] == list(range(len(shown)))


def test_error_for_missing_source_has_a_hint(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"none\.ts cannot be opened: Server returned 404 Not Found; is the URL"):
        LiveStream(f"{server.root}/none.ts")
    with pytest.raises(VideoError, match=r"^rtsp://127\.0\.0\.1:9/x cannot be opened") as caught:
        LiveStream("rtsp://me:secret@127.0.0.1:9/x?key=1", timeout_seconds=2)
    assert "secret" not in str(caught.value)
    with pytest.raises(VideoError, match="is it connected"):
        LiveStream("camera:77")
    with pytest.raises(VideoNotFoundError):
        LiveStream(str(tmp_path / "none.mp4"))
    with pytest.raises(InvalidInputError, match="timeout_seconds"):
        LiveStream("x.mp4", timeout_seconds=0)


def test_playlist_of_urls_is_followed(server: Server) -> None:
    server.files["/live.m3u8"] = HLS.format(file="v.ts").encode()
    shown = list(LiveStream(f"{server.root}/live.m3u8").frames(25.0))
    assert torch.equal(pixels(shown), pixels(list(LiveStream(f"{server.root}/v.ts").frames(25.0))))


@pytest.mark.parametrize(
    "prefix", ["", "file:", "file://", "crypto:", "crypto+file:", "subfile,,start,0,end,0,,:", "concat:"]
)
def test_url_cannot_refer_to_local_files(server: Server, prefix: str) -> None:
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
def test_unsupported_url_scheme_is_refused(source: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a supported URL; expected a file, or one of http, https"):
        LiveStream(source)


def test_public_name_has_no_credentials() -> None:
    assert public_name("rtsp://a:b@[::1]:554/s?t=1#f") == "rtsp://[::1]:554/s"
    assert public_name("camera:0") == "camera:0"
    assert public_name("C:\\v.mp4") == "C:\\v.mp4"
