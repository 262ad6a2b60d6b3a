"""How to keep flow on disk: ``python -m benchmarks.flow_store [--clips FOLDER]``.

The flow of real clips (short side 256, TV-L1, 256 levels), kept as JPEG pairs (what the field does), as H.264 and as
FFV1 with x above y in one gray picture. For each: bytes a flow, the error it adds to the 256 levels (and the total to
the unquantized flow inside +-20 px), and the time to read 64 flows at a random place.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from quovadis.flow.codec import decode_flow, encode_flow
from quovadis.flow.estimate import estimate_flow
from quovadis.flow.flow_files import FULL_RANGE, luma
from quovadis.video.read import read_clip
from quovadis.video.resize import resize_frames

CLIPS = Path(__file__).parent.parent.parent / "shared" / "data" / "clips"
NAMES = ("ucf_SoccerJuggling_g23_c01.avi", "asl_walk.mkv", "hmdb_wave_TrumanShow.avi", "k400_R6llTwEh07w.mp4")
WINDOW = 64

Reader = Callable[[int, int], np.ndarray]


def jpeg_pairs(levels: np.ndarray, folder: Path, quality: int) -> tuple[int, Reader]:
    size = 0
    for t, pair in enumerate(levels):
        for name, picture in zip("xy", pair, strict=True):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=quality)
            (folder / f"flow_{name}_{t + 1:05d}.jpg").write_bytes(file.getvalue())
            size += len(file.getvalue())

    def read(start: int, stop: int) -> np.ndarray:
        return np.stack(
            [
                [np.asarray(Image.open(folder / f"flow_{name}_{t + 1:05d}.jpg")) for name in "xy"]
                for t in range(start, stop)
            ]
        )

    return size, read


def video(levels: np.ndarray, folder: Path, codec: str, options: dict[str, str]) -> tuple[int, Reader]:
    _, _, height, width = levels.shape
    path = folder / "flow.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 2 * height, width + width % 2, "gray"
        stream.codec_context.color_range = FULL_RANGE
        for picture in levels.reshape(-1, 2 * height, width):
            padded = np.pad(picture, ((0, 0), (0, width % 2)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="gray")
            frame.color_range = FULL_RANGE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def read(start: int, stop: int) -> np.ndarray:
        pictures: list[np.ndarray] = []
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            container.seek(round(start * 40 / 1000 / float(stream.time_base or 1)), stream=stream)
            for frame in container.decode(stream):
                if round((frame.time or 0) * 25) >= start:
                    pictures.append(luma(frame))
                if len(pictures) == stop - start:
                    break
        return np.stack(pictures)[:, :, :width].reshape(-1, 2, height, width)

    return path.stat().st_size, read


WAYS: dict[str, Callable[[np.ndarray, Path], tuple[int, Reader]]] = {
    "JPEG pairs, quality 95": partial(jpeg_pairs, quality=95),
    "JPEG pairs, quality 90": partial(jpeg_pairs, quality=90),
    "JPEG pairs, quality 75": partial(jpeg_pairs, quality=75),
    "FFV1": partial(video, codec="ffv1", options={"g": "1", "level": "3"}),
    **{
        f"H.264 crf {crf}, a key frame every {gop}": partial(
            video, codec="libx264", options={"crf": str(crf), "g": str(gop), "preset": "veryfast", "tune": "fastdecode"}
        )
        for crf, gop in ((6, 1), (12, 1), (18, 1), (12, 12), (18, 12), (18, 250))
    },
}


def flow_of(path: Path) -> Tensor:
    clip = read_clip(path, fps=25, num_frames=WINDOW * 2 + 1, short="loop", transform=lambda f: resize_frames(f, 256))
    return estimate_flow(clip.frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, default=CLIPS, help="folder with the videos")
    arguments = parser.parse_args()
    flows = [flow_of(arguments.clips / name) for name in NAMES]
    encoded = [encode_flow(flow).numpy() for flow in flows]
    shapes = ", ".join(str(tuple(flow.shape)) for flow in flows)
    inside = torch.cat([(flow.abs() <= 20).flatten() for flow in flows])
    quantized = torch.cat(
        [(decode_flow(encode_flow(flow)) - flow).abs().flatten() for flow in flows]
    )[inside]  # fmt: skip
    print(f"flow {shapes}; 256 levels alone: error {quantized.mean():.3f} px mean, {quantized.max():.3f} most\n")
    print("| kept as | kB a flow | bytes a pixel | added error px: mean | 99 % | whole error px: mean "
          "| read 64 at random ms | files |")  # fmt: skip
    print("| --- " * 8 + "|")
    for name, write in WAYS.items():
        size, added, whole, seconds = 0, [], [], []
        pixels = sum(levels.size // 2 for levels in encoded)
        for flow, levels in zip(flows, encoded, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                part, read = write(levels, Path(folder))
                size += part
                back = decode_flow(torch.from_numpy(read(0, len(levels)).copy()))
                added.append((back - decode_flow(torch.from_numpy(levels))).abs().flatten())
                whole.append((back - flow).abs()[flow.abs() <= 20])
                for start in np.random.default_rng(0).integers(0, len(levels) - WINDOW, 5).tolist():
                    begin = time.perf_counter()
                    read(start, start + WINDOW)
                    seconds.append(time.perf_counter() - begin)
        errors = torch.cat(added).numpy()
        count = sum(len(levels) for levels in encoded)
        print(
            f"| {name} | {size / count / 1000:.1f} | {size / pixels:.3f} | {errors.mean():.3f} "
            f"| {np.percentile(errors, 99):.3f} | {torch.cat(whole).mean():.3f} "
            f"| {statistics.median(seconds) * 1000:.0f} | {'2 a flow' if 'JPEG' in name else 1} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
