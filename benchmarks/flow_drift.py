"""What does ``tvl1-fast`` change, in the flow and in features of real clips?

    python -m benchmarks.flow_drift [--clips FOLDER] [--frames 64]

There is no peer. The flow of the first frames of each clip, at 25 fps and a short side of 256, is estimated with both
methods, and an I3D maps both to features. Published flow networks are not used. The network has the filters of the
official RGB network, the first of them averaged over the colors, which is how TSN initializes flow networks (Wang et
al. 2016), and batch statistics of these clips. Reports for each clip:

- CPU seconds of each method for a pair of frames
- mean distance of the two flows in pixels, and the fraction of positions where it exceeds 1 px
- distance of the features, relative to the median distance between the features of two clips
- whether the clip with the nearest features is the same
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.flow import CLIPS
from benchmarks.machine import describe_machine
from quovadis import transforms
from quovadis.flow.source import FlowSource
from quovadis.models.batch_norm import BatchNormMixin
from quovadis.models.inputs import clip_to_streams
from quovadis.models.optimization import optimize
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from quovadis.video.read import read_clip
from quovadis.video.resize import resize_frames
from quovadis.weights.load import load_model

METHODS = ("tvl1", "tvl1-fast")


def flow_network(clips: list[Clip]) -> VideoModel:
    rgb, flow = load_model("i3d-rgb-kinetics400"), build_model("i3d", stream="flow", num_classes=400)
    state = rgb.state_dict()
    first = "trunk.Conv3d_1a_7x7.conv.weight"
    state[first] = state[first].mean(1, keepdim=True).expand(-1, 2, -1, -1, -1).clone()
    flow.load_state_dict(state)
    flow.train()
    with torch.no_grad():
        for index, clip in enumerate(clips):
            for module in flow.modules():
                if isinstance(module, BatchNormMixin):
                    module.momentum = 1 / (index + 1)  # the mean over the clips
            flow(network_input(clip, flow))
    return optimize(flow.eval())


def network_input(clip: Clip, model: VideoModel) -> Tensor:
    (stream,) = clip_to_streams(transforms.center_crop(clip, model.spec.size_px), model.spec)
    return transforms.to_model(stream[None])


def nearest(features: Tensor, index: int, other: Tensor) -> int:
    distances = (other - features[index]).norm(dim=1)
    distances[index] = torch.inf
    return int(distances.argmin())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--every", type=int, default=1, help="use every n-th clip of the folder")
    options = parser.parse_args()
    clips: dict[str, dict[str, Clip]] = {}
    seconds: dict[str, list[float]] = {}
    for path in sorted(options.clips.glob("*.[am][vpk][4iv]"))[:: options.every]:
        clip = read_clip(
            path,
            num_frames=options.frames,
            fps=25,
            short="loop",
            transform=lambda x: resize_frames(x, short_side_px=256),
        )
        clips[path.name], seconds[path.name] = {}, []
        for method in METHODS:
            begin = time.process_time()
            clips[path.name][method] = FlowSource(method).add_to(clip, first_frame_index=0, fps=25, short_side_px=256)
            seconds[path.name].append((time.process_time() - begin) / (len(clip) - 1))
    model = flow_network([flows["tvl1"] for flows in clips.values()])
    exact, fast = (
        torch.stack([model.features(network_input(flows[method], model)).mean(1)[0] for flows in clips.values()])
        for method in METHODS
    )
    typical = torch.pdist(exact).median()
    print(f"{describe_machine()}; {len(clips)} clips, {options.frames} frames\n")
    print("| clip | tvl1 s | tvl1-fast s | distance px | above 1 px | features | same neighbor |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for index, (name, flows) in enumerate(clips.items()):
        a, b = (flows[method].flow for method in METHODS)
        assert a is not None
        assert b is not None
        distance = (a - b).norm(dim=1)
        change = float((fast[index] - exact[index]).norm() / typical)
        same = nearest(exact, index, exact) == nearest(fast, index, exact)
        rows.append((*seconds[name], float(distance.mean()), float((distance > 1).float().mean()), change, float(same)))
        print(f"| {name} | " + "{:.3f} | {:.3f} | {:.2f} | {:.1%} | {:.2f} | ".format(*rows[-1][:5]) + f"{same} |")
    *medians, _ = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        "| median | {:.3f} | {:.3f} | {:.2f} | {:.1%} | {:.2f} | ".format(*medians)
        + f"{sum(r[-1] for r in rows):.0f} |"
    )


if __name__ == "__main__":
    main()
