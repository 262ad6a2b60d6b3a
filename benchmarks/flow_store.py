"""Which file format is best for stored optical flow?

    python -m benchmarks.flow_store [--clips FOLDER]

Peers: pairs of JPEG files (the usual format), and FFV1. quovadis stores H.264 with x above y in one gray frame. For the
flow of real clips (TV-L1, short side 256, 256 levels), measures the size, the error in addition to quantization, the
total error within +-20 px, and the time to read 64 frames of flow from a random position.
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
        for name, image in zip("xy", pair, strict=True):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=quality)
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
        for image in levels.reshape(-1, 2 * height, width):
            padded = np.pad(image, ((0, 0), (0, width % 2)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="gray")
            frame.color_range = FULL_RANGE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def read(start: int, stop: int) -> np.ndarray:
        images: list[np.ndarray] = []
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            container.seek(round(start * 40 / 1000 / float(stream.time_base or 1)), stream=stream)
            for frame in container.decode(stream):
                if round((frame.time or 0) * 25) >= start:
                    images.append(luma(frame))
                if len(images) == stop - start:
                    break
        return np.stack(images)[:, :, :width].reshape(-1, 2, height, width)

    return path.stat().st_size, read


FORMATS: dict[str, Callable[[np.ndarray, Path], tuple[int, Reader]]] = {
    "JPEG pairs, quality 95": partial(jpeg_pairs, quality=95),
    "JPEG pairs, quality 90": partial(jpeg_pairs, quality=90),
    "JPEG pairs, quality 75": partial(jpeg_pairs, quality=75),
    "FFV1": partial(video, codec="ffv1", options={"g": "1", "level": "3"}),
    **{
        f"H.264 crf {crf}, key frame interval {gop}": partial(
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
    print(f"flow {shapes}; error of 256 levels: mean {quantized.mean():.3f} px, maximum {quantized.max():.3f} px\n")
    print("| format | kB per frame | bytes per pixel | added error px: mean | 99 % | total error px: mean "
          "| read 64 frames ms | files |")  # fmt: skip
    print("| --- " * 8 + "|")
    for name, write in FORMATS.items():
        size, added, total, seconds = 0, [], [], []
        pixels = sum(levels.size // 2 for levels in encoded)
        for flow, levels in zip(flows, encoded, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                num_bytes, read = write(levels, Path(folder))
                size += num_bytes
                decoded = decode_flow(torch.from_numpy(read(0, len(levels)).copy()))
                added.append((decoded - decode_flow(torch.from_numpy(levels))).abs().flatten())
                total.append((decoded - flow).abs()[flow.abs() <= 20])
                for start in np.random.default_rng(0).integers(0, len(levels) - WINDOW, 5).tolist():
                    begin = time.perf_counter()
                    read(start, start + WINDOW)
                    seconds.append(time.perf_counter() - begin)
        errors = torch.cat(added).numpy()
        count = sum(len(levels) for levels in encoded)
        print(
            f"| {name} | {size / count / 1000:.1f} | {size / pixels:.3f} | {errors.mean():.3f} "
            f"| {np.percentile(errors, 99):.3f} | {torch.cat(total).mean():.3f} "
            f"| {statistics.median(seconds) * 1000:.0f} | {'2 per frame' if 'JPEG' in name else 1} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
