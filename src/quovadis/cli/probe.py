"""``quovadis probe``: say what a video file is."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Probe:
    """Say what video files are: size, frame rate, codec, length."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files."""
    count: bool = False
    """Decode every frame, for the exact number of frames and the exact length."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the verb."""
    options = tyro.cli(Probe, args=args, prog="quovadis probe", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.video.read import probe

    infos = [probe(path, count=options.count) for path in options.videos]
    if options.json:
        print(json.dumps([asdict(info) | {"path": str(info.path)} for info in infos], indent=2))
        return
    for info in infos:
        frames = "? frames" if info.num_frames is None else f"{info.num_frames} frames"
        length = "" if info.duration_seconds is None else f", {info.duration_seconds:.2f} s"
        aspect = f", pixel aspect ratio {info.pixel_aspect_ratio:.4g}" if info.pixel_aspect_ratio != 1 else ""
        turned = f", turned {info.rotation_degrees} degrees" if info.rotation_degrees else ""
        turned += ", mirrored" if info.mirrored else ""
        varying = ", variable frame rate" if info.variable_frame_rate else ""
        sound = ", with sound" if info.has_audio else ""
        print(
            f"{info.path}: {info.width}x{info.height}, {info.fps:g} fps{varying}, {frames}{length}, {info.codec} in "
            f"{info.container}{aspect}{turned}{sound}"
        )
        for note in info.notes:
            print(f"  note: {note}")
