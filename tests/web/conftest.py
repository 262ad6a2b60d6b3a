"""A running server, and videos to upload to it."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from quovadis.models.spec import StreamKind
from quovadis.models.zoo import build_model
from quovadis.video.writer import write_video
from quovadis.web.examples import motions_examples
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.launch import ROOT
from tests.synthetic import awake, moving_square

LABELS = ("<b>left</b>", "right & on")
_SCRIPT = """
import sys, time
from pathlib import Path
from quovadis.cli import main
from quovadis.web import analysis
from quovadis.web.handlers import Handlers

recognize = analysis.recognize

def recognize_or_run_forever(recognizer, path, *, on_progress, **options):
    if Path(path).name != "endless.mp4":
        return recognize(recognizer, path, on_progress=on_progress, **options)
    try:
        while True:
            on_progress(time.monotonic() % 1, "working")
            time.sleep(0.05)
    finally:
        Path(path).with_name("canceled").touch()

analysis.recognize = recognize_or_run_forever
show = Handlers.show

def show_later(handlers, file, player_id):
    if file and Path(file).name == "delayed.mp4":
        time.sleep(1)
    yield from show(handlers, file, player_id)

Handlers.show = show_later
main(sys.argv[1:])
"""
"""``quovadis`` with a video name whose recognition never finishes, and one that is shown after a second."""


def gif_bomb(path: Path, side_px: int = 20_000) -> Path:
    """Write a few bytes that decode to an image of 1.6 GB."""
    size = struct.pack("<HH", side_px, side_px)
    head = b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    path.write_bytes(head + b"\x2c\0\0\0\0" + size + b"\0" + b"\x02\x02\x44\x01\x00" + b";")
    return path


def png_bomb(path: Path, side_px: int = 6000) -> Path:
    """Write about 100 kB that decode to an image of 108 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes((3 * side_px + 1) * side_px))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def long_video(path: Path, seconds: float = 7200.0) -> Path:
    """Write a small video with a duration of hours."""
    frames = moving_square(3, 32, 48)
    return write_video(path, frames, pts_seconds=[0.0, 1.0, seconds], options={"preset": "ultrafast"})


def save_tiny(path: Path, seed: int, stream: StreamKind = "rgb") -> Path:
    torch.manual_seed(seed)
    info = WeightsInfo("i3d_tiny", {"stream": stream, "num_classes": len(LABELS)}, LABELS)
    model = build_model("i3d_tiny", num_classes=len(LABELS), stream=stream)
    return save_weights(path, awake(model, seed).state_dict(), info)


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    folder: Path
    """Its temporary files."""
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with two models and examples."""
    folder = tmp_path_factory.mktemp("serve")
    weights, other = save_tiny(folder / "a.safetensors", 0), save_tiny(folder / "b.safetensors", 1)
    (folder / "examples").mkdir()
    written = motions_examples(folder / "examples")
    for name in ("delayed.mp4", "endless.mp4"):
        shutil.copy(written[0].path, folder / "examples" / name)
    with serve(folder, "--weights", weights, "--compare", other, "--examples", folder / "examples") as served:
        yield served


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with one model, without examples."""
    folder = tmp_path_factory.mktemp("plain")
    with serve(folder, "--weights", save_tiny(folder / "a.safetensors", 0)) as served:
        yield served


@contextmanager
def serve(folder: Path, *options: str | Path) -> Iterator[Served]:
    """Run ``quovadis serve`` in a process, and check at the end that it exits cleanly."""
    if find_spec("gradio") is None:
        pytest.skip("needs gradio: pip install '.[web]'")
    temporary = folder / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-c", _SCRIPT, "serve", *options]
    command += ["--port", 0, "--max-seconds", 60, "--max-mib", 2, "--device", "cpu"]
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)]),
    }
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [str(part) for part in command], env=environment, text=True, stdout=subprocess.PIPE, stderr=log
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), (folder / "log").read_text()
        yield Served(url, temporary, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        messages = (folder / "log").read_text()
        # Gradio logs a traceback for the test that requests a local file.
        assert messages.count("Traceback") == messages.count("InvalidPathError: "), messages
        assert not list(temporary.glob("quovadis-*")), "uploaded files are not deleted"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        log.close()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that every browser can play."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_video(path, moving_square(50, 48, 64), fps=25, options={"preset": "ultrafast"})
