"""Opening a file opens no other file: playlists, image sequences, devices and URLs in it are not followed."""

import ast
import ctypes
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from quovadis.errors import VideoError, VideoNotFoundError
from quovadis.video.opening import FILE_FORMATS, close_container, open_container
from quovadis.video.read import probe, read_clip
from quovadis.video.writer import write_video
from tests.synthetic import moving_square

SOURCE = Path(__file__).parents[2] / "src" / "quovadis"
IN_OPEN = 0x20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with videos that playlists must not open, in the formats of playlists."""
    frames = moving_square(6)
    for ending in ("mp4", "ts"):
        write_video(tmp_path / f"secret.{ending}", frames, fps=25, options={"preset": "ultrafast"})
    Image.fromarray(frames[0].permute(1, 2, 0).numpy()).save(tmp_path / "001.png")
    return tmp_path


@pytest.fixture
def opened(folder: Path) -> Iterator[Callable[[], set[str]]]:
    """Return the names of files in the folder that this process opened since the last call."""
    if sys.platform != "linux":
        yield set
        return
    libc = ctypes.CDLL(None)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0
    assert libc.inotify_add_watch(handle, os.fsencode(folder), IN_OPEN) >= 0

    def names() -> set[str]:
        found, start = set(), 0
        try:
            events = os.read(handle, 65536)
        except BlockingIOError:
            return set()
        while start < len(events):
            (length,) = struct.unpack_from("I", events, start + 12)
            found.add(events[start + 16 : start + 16 + length].rstrip(b"\0").decode())
            start += 16 + length
        return found - {""}

    yield names
    os.close(handle)


HLS = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:3\n{extra}#EXTINF:3,\n{file}\n#EXT-X-ENDLIST\n"
PLAYLISTS = {
    "HLS, relative": ("m3u8", HLS.format(extra="", file="secret.ts")),
    "HLS, absolute": ("m3u8", HLS.format(extra="", file="FOLDER/secret.ts")),
    "HLS, file URL": ("m3u8", HLS.format(extra="", file="file://FOLDER/secret.ts")),
    "HLS, concat": ("m3u8", HLS.format(extra="", file="concat:FOLDER/secret.ts|FOLDER/secret.ts")),
    "HLS, key": ("m3u8", HLS.format(extra='#EXT-X-KEY:METHOD=AES-128,URI="FOLDER/001.png"\n', file="secret.ts")),
    "HLS, map": ("m3u8", HLS.format(extra='#EXT-X-MAP:URI="FOLDER/secret.mp4"\n', file="secret.mp4")),
    "HLS, master": ("m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nsecret.mp4\n"),
    "ffconcat": ("ffconcat", "ffconcat version 1.0\nfile secret.mp4\n"),
    "ffconcat, options": ("ffconcat", "ffconcat version 1.0\nfile secret.mp4\noption safe 0\nduration 1\n"),
    "SDP": (
        "sdp",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ),
    "DASH": (
        "mpd",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:'
        'isoff-on-demand:2011" mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1" bandwidth="1"><BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period>'
        "</MPD>",
    ),
    "IMF": (
        "xml",
        '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
        "<EditRate>25 1</EditRate></CompositionPlaylist>",
    ),
    "ASX": ("asx", '<asx version="3.0"><entry><ref href="secret.mp4"/></entry></asx>'),
    "PLS": ("pls", "[playlist]\nFile1=secret.mp4\nNumberOfEntries=1\n"),
    "QuickTime text": ("mov", '<?xml version="1.0"?><?quicktime type="application/x-quicktime-media-link"?>secret.mp4'),
    "RTSP redirect": ("mov", "RTSPtextrtsp://127.0.0.1:9/x\n"),
    "VobSub": ("idx", "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"),
    "AviSynth": ("avs", 'AviSource("secret.mp4")\n'),
}


@pytest.mark.parametrize("kind", list(PLAYLISTS))
def test_playlist_is_refused_under_any_name(folder: Path, opened: Callable[[], set[str]], kind: str) -> None:
    ending, text = PLAYLISTS[kind]
    shutil.copy(folder / "secret.ts", folder / "x.sub")  # VobSub reads the file next to x.idx
    opened()
    for name in {f"x.{ending}", "x.mp4", "x.avi", "x.mkv", "x.m3u8", "x"}:
        (folder / name).write_text(text.replace("FOLDER", str(folder)))
        opened()
        with pytest.raises(VideoError, match=r"is not a video that FFmpeg can open: .+"):
            read_clip(folder / name)
        assert opened() <= {name}


def test_inotify_fixture_detects_files_that_ffmpeg_opens(folder: Path, opened: Callable[[], set[str]]) -> None:
    (folder / "x.mp4").write_text(PLAYLISTS["ffconcat"][1])
    opened()
    with av.open(str(folder / "x.mp4")):
        pass
    assert opened() == {"x.mp4", "secret.mp4"} or sys.platform != "linux"


@pytest.mark.parametrize("name", ["%03d.png", "%3d.png", "[0-9]*.png", "%*.png"])
def test_file_name_is_not_a_pattern(folder: Path, opened: Callable[[], set[str]], name: str) -> None:
    with pytest.raises(VideoNotFoundError):
        probe(folder / name)
    shutil.copy(folder / "001.png", folder / name)
    opened()
    with suppress(VideoError):
        probe(folder / name)
    assert opened() <= {name}


@pytest.mark.parametrize(
    "name",
    [
        *("-i.mp4", "%03d.mp4", "concat:secret.mp4|secret.mp4", "file:secret.mp4", "pipe:0", "|ls", "http:x.mp4"),
        *("subfile,,start,0,,:x", "data:video;base64,AAAA", "x\ny.mp4", "?.mp4", "~.mp4", "x.m3u8", "#1.mp4"),
    ],
)
def test_special_characters_in_file_names(
    folder: Path, opened: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(VideoNotFoundError):
        probe(name)
    shutil.copy("secret.mp4", name)
    opened()
    assert len(read_clip(name)) == 6
    assert opened() == {name} or sys.platform != "linux"


def test_track_in_another_file_is_not_read(folder: Path, opened: Callable[[], set[str]]) -> None:
    path = folder / "x.mov"
    write_video(path, moving_square(6), fps=25, codec="mjpeg", pixel_format="yuvj420p")
    path.write_bytes(refer_to(path.read_bytes(), b"secret.mp4"))
    opened()
    with av.open(str(path), options={"enable_drefs": "1"}):  # the reference is one that FFmpeg can follow
        assert opened() == {"x.mov", "secret.mp4"} or sys.platform != "linux"
    with open_container(path):
        assert opened() <= {"x.mov"}


def refer_to(movie: bytes, name: bytes) -> bytes:
    """A QuickTime movie (moov after mdat) whose only track refers to another file of the same folder."""
    alias = bytearray(200)
    alias[10] = 0  # length of the volume's name
    alias[50] = len(name)
    alias[51 : 51 + len(name)] = name
    alias[130:134] = struct.pack(">hh", 1, 1)  # levels up and down: the same folder
    paths = struct.pack(">HH", 2, len(b"/" + name)) + b"/" + name + bytes((len(name) + 1) % 2)
    body = bytes(alias[:150]) + paths + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(body), b"alis", 0) + body
    at = movie.index(b"dref") + 12  # after the version and the count
    (old,) = struct.unpack_from(">I", movie, at)
    grown = bytearray(movie[:at] + entry + movie[at + old :])
    for atom in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = movie.rindex(atom, 0, at) - 4
        (size,) = struct.unpack_from(">I", grown, start)
        struct.pack_into(">I", grown, start, size + len(entry) - old)
    return bytes(grown)


def test_growth_of_the_frame_size_is_limited(tmp_path: Path) -> None:
    fast = {"preset": "ultrafast"}
    small = write_video(tmp_path / "small.ts", moving_square(25), fps=25, options=fast).read_bytes()
    for height, width, expected in ((720, 1280, (1280, 720)), (2400, 4096, None)):
        frame = torch.zeros(3, 3, height, width, dtype=torch.uint8)
        large = write_video(tmp_path / "large.ts", frame, fps=25, options=fast).read_bytes()
        path = tmp_path / "both.ts"
        path.write_bytes(small + large)
        assert largest(path) == (expected or (64, 48))
        path.write_bytes(large)
        assert largest(path) == (width, height)  # the header says so: a limit is up to the caller


def largest(path: Path) -> tuple[int, int]:
    """Return the size of the largest frame that decodes."""
    sizes, container = set(), open_container(path)
    for packet in container.demux(container.streams.video[0]):
        with suppress(av.error.InvalidDataError):
            sizes |= {(frame.width, frame.height) for frame in packet.decode()}
    close_container(container)
    return max(sizes)


FILES = {
    "3gp": ("h263", "176x144"),
    **dict.fromkeys(("asf", "avi", "divx", "m4v", "mkv", "mov", "mp4", "nut", "wmv"), ("mpeg4", "64x48")),
    **dict.fromkeys(("m2ts", "m2v", "mpg", "ts", "vob"), ("mpeg2video", "64x48")),
    "apng": ("apng", "64x48"),
    "f4v": ("libx264", "64x48"),
    "flv": ("flv", "64x48"),
    "gif": ("gif", "64x48"),
    "h264": ("libx264", "64x48"),
    "mjpeg": ("mjpeg", "64x48"),
    "mxf": ("mpeg2video", "720x576"),
    "ogv": ("libvpx", "64x48"),
    "rm": ("rv20", "176x144"),
    "webm": ("libvpx", "64x48"),
    "y4m": ("rawvideo", "64x48"),
}
PIXELS = {"apng": "rgb24", "gif": "rgb8", "mjpeg": "yuvj420p"}
CONTAINERS = {"divx": "avi"}


@pytest.mark.parametrize("ending", list(FILES))
def test_common_formats_are_read(tmp_path: Path, ending: str) -> None:
    codec, size = FILES[ending]
    width, height = map(int, size.split("x"))
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    path = tmp_path / f"x.{CONTAINERS.get(ending, ending)}"
    write_video(path, moving_square(6, height, width), fps=25, codec=codec, pixel_format=PIXELS.get(ending, "yuv420p"))
    path = path.rename(tmp_path / f"y.{ending}")
    with open_container(path) as container:
        assert container.streams.video[0].codec_context.width == width
    assert len(read_clip(path)) >= 5


@pytest.mark.parametrize("name", FILE_FORMATS)
def test_no_supported_format_opens_files_by_itself(name: str) -> None:
    assert not av.ContainerFormat(name, "r").no_file


def test_videos_are_opened_for_reading_in_two_modules() -> None:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "av.open",
                "av.container.open",
                "InputContainer",
            ):
                words = [
                    ast.unparse(a) for a in (*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode"))
                ]
                found += [file.name] if words != ["'w'"] else []
    assert found == ["live.py", "opening.py"]


LOGGING = """
import sys, av, quovadis
from quovadis.video.reader import VideoReader
av.logging.set_level(av.logging.DEBUG)
for _ in range(15):
    quovadis.probe(sys.argv[1])
    reader = VideoReader(sys.argv[1], num_threads=4)
    next(reader.frames())
    del reader
print("done")
"""


@pytest.mark.slow
def test_logging_decoder_threads_do_not_deadlock(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", moving_square(40, 96, 128), fps=25, options={"preset": "ultrafast"})
    run = subprocess.run([sys.executable, "-c", LOGGING, str(path)], capture_output=True, text=True, timeout=120)
    assert run.stdout == "done\n", run.stderr
