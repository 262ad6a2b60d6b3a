"""Selection of the stream, orientation, pixel aspect ratio, frame size and colors."""

from __future__ import annotations

import io
import math
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from quovadis.errors import VideoError
from quovadis.video.orientation import Orientation, parse_display_matrix
from quovadis.video.read import probe, read_clip
from quovadis.video.reader import VideoReader
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import moving_square

# --- orientation ------------------------------------------------------------------------------------------------------


def matrix(a: float, b: float, c: float, d: float) -> bytes:
    return struct.pack("=9i", *[round(65536 * v) for v in (a, b, 0, c, d, 0, 0, 0)], 1 << 30)


def stored() -> np.ndarray:
    return np.arange(6, dtype=np.uint8).reshape(2, 3)


MATRICES = {
    "upright": (1, 0, 0, 1),
    "rotated by 90": (0, 1, -1, 0),
    "rotated by 180": (-1, 0, 0, -1),
    "rotated by 270": (0, -1, 1, 0),
    "mirrored left-right": (-1, 0, 0, 1),
    "mirrored top-bottom": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}
SHOWN = {
    "upright": stored(),
    "rotated by 90": np.rot90(stored(), -1),
    "rotated by 180": np.rot90(stored(), 2),
    "rotated by 270": np.rot90(stored()),
    "mirrored left-right": stored()[:, ::-1],
    "mirrored top-bottom": stored()[::-1],
    "transposed": stored().T,
    "transposed the other way": np.rot90(stored(), 2).T,
}


@pytest.mark.parametrize("name", list(MATRICES))
def test_each_matrix_is_one_of_eight_orientations(name: str) -> None:
    """A pixel at (x, y) is displayed at (a x + c y, b x + d y)."""
    a, b, c, d = MATRICES[name]
    moved = {(a * x + c * y, b * x + d * y): stored()[y, x] for y in range(2) for x in range(3)}
    rows = sorted({y for _, y in moved})
    shown = np.array([[moved[x, y] for x in sorted({x for x, _ in moved})] for y in rows])
    assert np.array_equal(shown, SHOWN[name])
    found, error_degrees = parse_display_matrix(matrix(a, b, c, d))
    turned = stored().T if found.swap_axes else stored()
    turned = turned[:: -1 if found.mirror_y else 1, :: -1 if found.mirror_x else 1]
    assert np.array_equal(turned, SHOWN[name])
    assert error_degrees == 0
    by_degrees = np.rot90(stored(), -found.rotation_degrees // 90)
    assert np.array_equal(by_degrees[:, ::-1] if found.mirrored else by_degrees, SHOWN[name])


@pytest.mark.parametrize("degrees", [-10, 7, 80, 100, 170, 185, 262, 300])
@pytest.mark.parametrize("mirrored", [False, True])
def test_other_angles_are_rounded(degrees: float, mirrored: bool) -> None:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    mirror = -1 if mirrored else 1
    found, error_degrees = parse_display_matrix(matrix(mirror * cos, sin, mirror * -sin, cos))
    nearest = round(degrees / 90) * 90
    assert (found.rotation_degrees, found.mirrored) == (nearest % 360, mirrored)
    assert error_degrees == pytest.approx(abs(degrees - nearest), abs=0.01)


def test_scale_is_ignored_and_singular_matrices_too() -> None:
    assert parse_display_matrix(matrix(0, 0.5, -3, 0)) == (Orientation(True, True, False), 0.0)
    assert parse_display_matrix(matrix(0, 0, 0, 0)) == (Orientation(), 0.0)
    assert parse_display_matrix(b"") == (Orientation(), 0.0)


def write_matrix(path: Path, values: tuple[float, float, float, float]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0", "preset": "ultrafast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        a, b, c, d = (round(65536 * v) for v in values)
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for number, pixels in enumerate(moving_square(5)):
            frame = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_note_for_rounded_angle(tmp_path: Path) -> None:
    cos, sin = math.cos(math.radians(80)), math.sin(math.radians(80))
    info = probe(write_matrix(tmp_path / "a.mp4", (cos, sin, -sin, cos)))
    assert (info.width, info.height, info.rotation_degrees) == (48, 64, 90)
    assert len(info.notes) == 1
    assert "10 degrees off a multiple of 90; rounded" in info.notes[0]
    assert probe(write_matrix(tmp_path / "b.mp4", (0, 1, -1, 0))).notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_in_motion_jpeg(tmp_path: Path, orientation: int) -> None:
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((32, 64, 3), np.uint8)
    stored[:16, :16] = 255, 0, 0  # red in the upper left corner
    jpeg = io.BytesIO()
    image.fromarray(stored).save(jpeg, "JPEG", exif=exif, quality=95)
    (tmp_path / "a.jpg").write_bytes(jpeg.getvalue())
    with av.open(str(tmp_path / "a.jpg")) as source, av.open(str(tmp_path / "a.avi"), "w") as target:
        stream = target.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        packet = next(source.demux(video=0))
        for number in range(3):
            copy = av.Packet(bytes(packet))
            copy.pts = copy.dts = number
            copy.time_base, copy.stream, copy.is_keyframe = Fraction(1, 25), stream, True
            target.mux(copy)
    red = read_clip(tmp_path / "a.avi").frames[-1, 0] > 128
    assert red.shape == ((32, 64) if orientation < 5 else (64, 32))
    top, left = orientation in (1, 2, 5, 6), orientation in (1, 4, 5, 8)  # where the stored upper left corner goes
    assert red[4 if top else -4, 4 if left else -4]
    assert red.sum() < 1.3 * 16 * 16


# --- pixel aspect -----------------------------------------------------------------------------------------------------


def write_aspect(path: Path, aspect: Fraction) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("aspect", "width"), [("2", 128), ("8/9", 57), ("64/45", 91), ("1/2", 32), ("125/128", 62)])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_pixels_are_square(tmp_path: Path, aspect: str, width: int, ending: str) -> None:
    path = write_aspect(tmp_path / f"a.{ending}", Fraction(aspect))
    assert read_clip(path).frames.shape == (1, 3, 48, width)
    info = probe(path)
    assert (info.width, info.height) == (width, 48)
    assert info.pixel_aspect_ratio == pytest.approx(float(Fraction(aspect)))


def test_implausible_pixel_aspect_is_ignored_with_a_note(tmp_path: Path) -> None:
    path = write_aspect(tmp_path / "a.mp4", Fraction(20))
    assert read_clip(path).frames.shape == (1, 3, 48, 64)
    info = probe(path)
    assert "pixel aspect ratio 20:1 is implausible; ignored" in info.notes[0]
    assert info.pixel_aspect_ratio == 1


# --- streams ----------------------------------------------------------------------------------------------------------


def write_streams(path: Path, *streams: tuple[int, int, str]) -> Path:
    """Write streams of uniform frames, given by gray level, width and disposition; the height is 32."""
    with av.open(str(path), "w") as container:
        added = []
        for _, width, purpose in streams:
            stream = container.add_stream("mjpeg" if purpose == "attached_pic" else "libx264", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = width, 32
            stream.pix_fmt = "yuvj420p" if purpose == "attached_pic" else "yuv420p"
            stream.disposition = getattr(av.stream.Disposition, purpose or "original")
            added.append(stream)
        for (level, width, purpose), stream in zip(streams, added, strict=True):
            for number in range(1 if purpose == "attached_pic" else 5):
                frame = av.VideoFrame.from_ndarray(np.full((32, width, 3), level, np.uint8), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("streams", "shown"),
    [
        ([(50, 32, ""), (200, 64, "default")], 200),
        ([(50, 64, "default"), (200, 32, "")], 50),
        ([(50, 64, ""), (200, 32, "default")], 200),
        ([(50, 32, ""), (200, 64, "")], 200),
        ([(50, 32, "default"), (200, 64, "default")], 200),
        ([(50, 32, "default"), (200, 32, "default")], 50),
    ],
)
def test_default_stream_or_else_the_largest_is_read(
    tmp_path: Path, streams: list[tuple[int, int, str]], shown: int
) -> None:
    """The rule of the ffmpeg program."""
    path = write_streams(tmp_path / "a.mkv", *streams)
    assert abs(int(read_clip(path).frames[0, 0, 5, 5]) - shown) < 4
    index = [level for level, *_ in streams].index(shown)
    assert probe(path).notes == (f"the file has 2 video streams; read stream {index}",)


def test_cover_image_is_not_a_video(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.mp4", (200, 64, "default"), (50, 640, "attached_pic"))
    assert abs(int(read_clip(path).frames[0, 0, 5, 5]) - 200) < 4
    assert probe(path).notes == ()
    assert len(read_clip(path, fps=None)) == 5


# --- colors -----------------------------------------------------------------------------------------------------------


def write_patches(path: Path, codec: str, pixel_format: str, colorspace: int, **options: str) -> Path:
    """Four uniform patches of 32 x 32, whose centers do not depend on the interpolation of chroma."""
    ffmpeg_options = {"preset": "ultrafast", "crf": "1", "qscale": "1"} if codec != "ffv1" else {}
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:32, :32], rgb[:32, 32:], rgb[32:, :32], rgb[32:, 32:] = PATCHES
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=ffmpeg_options | options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixel_format
        stream.codec_context.colorspace = colorspace
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame = frame.reformat(format=pixel_format, dst_colorspace=colorspace)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


PATCHES = [(200, 30, 30), (30, 190, 60), (40, 60, 220), (180, 170, 160)]


@pytest.mark.parametrize("colorspace", [1, 5, 9], ids=["BT.709", "BT.601", "BT.2020"])
@pytest.mark.parametrize(
    ("ending", "codec", "pixel_format"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv420p10le"),
        ("mkv", "ffv1", "yuv422p10le"),
        ("mkv", "ffv1", "yuv444p12le"),
    ],
)
def test_colors_survive_encoding(tmp_path: Path, ending: str, codec: str, pixel_format: str, colorspace: int) -> None:
    """For every color matrix and bit depth."""
    path = write_patches(tmp_path / f"a.{ending}", codec, pixel_format, colorspace)
    pixels = read_clip(path).frames[0].permute(1, 2, 0).int()
    for color, (y, x) in zip(PATCHES, [(16, 16), (16, 48), (48, 16), (48, 48)], strict=True):
        assert (pixels[y, x] - torch.tensor(color)).abs().max() <= 3


@pytest.mark.parametrize(("transfer", "name"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG"), ("bt709", "")])
def test_note_for_hdr(tmp_path: Path, transfer: str, name: str) -> None:
    path = tmp_path / "a.mp4"
    options = {"x264-params": f"transfer={transfer}"}
    write_video(path, moving_square(2), pixel_format="yuv420p10le", options=options)
    notes = probe(path).notes
    assert len(notes) == bool(name)
    assert not name or f"HDR ({name}) and is not tone-mapped" in notes[0]


def test_note_for_interlaced_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, moving_square(3), options={"x264-params": "tff=1"})
    assert "interlaced and is not deinterlaced" in probe(path).notes[0]


# --- formats ----------------------------------------------------------------------------------------------------------


def test_error_for_animated_webp(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pictures = [image.fromarray(p.permute(1, 2, 0).numpy()) for p in moving_square(4)]
    path = tmp_path / "a.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    with pytest.raises(VideoError, match=r"a\.webp is an animated WebP.* convert it to GIF or MP4"):
        read_clip(path)


def test_frame_at(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mp4", moving_square(5), fps=1, **LOSSLESS)  # type: ignore[arg-type]
    with VideoReader(path) as reader:
        for seconds, number in [(-1, 0), (0, 0), (0.9, 0), (1, 1), (2.5, 2), (4.2, 4), (4.99, 4), (60, 4)]:
            assert torch.equal(reader.frame_at(seconds).pixels, moving_square(5)[number]), seconds
