"""``quovadis probe``: print the properties of video files."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Probe:
    """Print the properties of video files: size, frame rate, number of frames, duration, codec."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files."""
    count: bool = False
    """Decode every frame to get the exact number of frames and duration."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the command."""
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
        orientation = f", rotated {info.rotation_degrees} degrees" if info.rotation_degrees else ""
        orientation += ", mirrored" if info.mirrored else ""
        variable = ", variable frame rate" if info.variable_frame_rate else ""
        audio = ", with audio" if info.has_audio else ""
        print(
            f"{info.path}: {info.width}x{info.height}, {info.fps:g} fps{variable}, {frames}{length}, {info.codec} in "
            f"{info.container}{aspect}{orientation}{audio}"
        )
        for note in info.notes:
            print(f"  note: {note}")
