"""Classify a video with the exported network next to this file, with numpy and onnxruntime only.

Usage: python NAME.onnx.run.py VIDEO, where VIDEO is a video, which needs the program ffmpeg, or a .npy file of frames
(T, H, W, 3): uint8, RGB, at the frame rate of the card.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

model = Path(__file__).with_suffix("").with_suffix("")
card = json.loads(Path(f"{model}.json").read_text(encoding="utf-8"))
how = card["sampling"]


def read_frames(path: str) -> Iterator[np.ndarray]:
    """Yield the frames of a video, uint8 (H, W, 3)."""
    if path.endswith(".npy"):
        yield from np.load(path)
        return
    output = f"-vf fps={how['fps']:g} -f image2pipe -c:v ppm -".split()
    with subprocess.Popen(["ffmpeg", "-v", "error", "-i", path, *output], stdout=subprocess.PIPE) as process:
        while process.stdout and process.stdout.readline():  # a line P6, then the size, then 255
            width, height = map(int, process.stdout.readline().split())
            process.stdout.readline()
            yield np.frombuffer(process.stdout.read(width * height * 3), np.uint8).reshape(height, width, 3)


def resize_and_crop(frame: np.ndarray) -> np.ndarray:
    """Resize the short side, without antialiasing, and crop the center."""
    short = min(frame.shape[:2])
    for axis, crop in enumerate(how["crop_px"]):
        size = frame.shape[axis]
        resized = round(size * how["short_side_px"] / short)
        at = (np.arange(crop) + (resized - crop) // 2 + 0.5) * size / resized - 0.5  # bilinear, half-pixel centers
        low = np.clip(np.floor(at).astype(int), 0, size - 1)
        part = np.clip(at - low, 0, 1).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        frame = frame.take(low, axis) * (1 - part) + frame.take(np.minimum(low + 1, size - 1), axis) * part
    return frame.round().astype(np.uint8)


taken = (frame for i, frame in enumerate(read_frames(sys.argv[1])) if i % how["frame_stride"] == 0)
video = np.stack([resize_and_crop(frame) for frame in taken])
video = video[np.arange(max(len(video), how["min_frames"])) % len(video)]  # loop a short video
window, logits = how["window_frames"], []
starts = list(range(0, max(len(video) - window, 0) + 1, window))
if len(video) - starts[-1] - window >= how["min_rest_frames"]:
    starts.append(len(video) - window)  # the last window ends with the video
session = onnxruntime.InferenceSession(str(model))
for start in starts:
    clip = video[start : start + window].transpose(3, 0, 1, 2).astype(np.float32) / 127.5 - 1
    logits.append(session.run(["logits"], {"rgb": np.stack([clip] * how["batch_size"])})[0][0])
exponentials = np.exp(np.mean(logits, 0) - np.max(np.mean(logits, 0)))
for index in np.argsort(-exponentials)[:5]:
    print(f"{card['labels'][index]}\t{exponentials[index] / exponentials.sum():.6f}")
