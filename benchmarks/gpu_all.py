"""Everything that needs a GPU, in one run of minutes, from the source tree: ``python -m benchmarks.gpu_all``.

Needs torch, triton and numpy only, so it makes its own frames. ``--device cpu --small`` tries the script where there is
no GPU. In this order, each part by itself, so that one that fails is a line in the table and not the end:

- checks: TV-L1 on the device against the plain one in float64, every network after ``optimize`` against itself in
  float64 on the CPU, and a training step against one on the CPU;
- flow: pairs a second of TV-L1 at 340x256;
- end to end: frames on the host, resized, their flow, both networks, one answer; times real time at 25 frames a second;
- networks: see :mod:`benchmarks.network`, here the plain port, ours, optimized, and optimized in bfloat16;
- training: a step of all five networks in bfloat16, and of I3D in each way;
- compiled (only if asked for): I3D by ``torch.compile``.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import describe_machine
from benchmarks.network import Case, clock, measure, measure_training, print_rows
from quovadis.flow.codec import encode_flow
from quovadis.flow.estimate import estimate_flow, to_gray
from quovadis.flow.parameters import TVL1Parameters
from quovadis.flow.tvl1 import implementation_for, tvl1
from quovadis.flow.tvl1_reference import tvl1_reference
from quovadis.models.optimization import optimize
from quovadis.models.zoo import build_model
from quovadis.transforms.tensor import to_model
from quovadis.video.resize import resize_frames

NETWORKS = ("i3d", "i3d:flow", "convnet_lstm", "conv3d", "two_stream", "fused_two_stream")
FPS = 25.0

Figures = dict[str, Any]


def moving_frames(num_frames: int, height: int, width: int) -> Tensor:
    """Generate uint8 (T, 3, H, W): a smooth texture that moves by fractions of pixels and rotates."""
    generator = torch.Generator().manual_seed(0)
    texture = F.interpolate(torch.rand(1, 3, 24, 32, generator=generator), (height, width), mode="bicubic")
    angle = 0.2 * torch.sin(torch.arange(num_frames) / 9)
    shift = 0.1 * torch.sin(torch.arange(num_frames) / 5)
    turn = torch.stack([angle.cos(), -angle.sin(), shift, angle.sin(), angle.cos(), shift / 2], 1).view(-1, 2, 3)
    grid = F.affine_grid(turn, [num_frames, 3, height, width], align_corners=False)
    frames = F.grid_sample(texture.expand(num_frames, -1, -1, -1), grid, padding_mode="reflection", align_corners=False)
    return frames.clamp(0, 1).mul(255).to(torch.uint8)


def check_flow(options: Namespace) -> Figures:
    """Compare TV-L1 on the device with the float64 reference on the CPU."""
    frames = to_gray(moving_frames(3, 96, 128))
    ours = tvl1(frames[:-1].to(options.device), frames[1:].to(options.device)).cpu()
    exact = tvl1_reference(frames[:-1].double(), frames[1:].double(), TVL1Parameters())
    difference = (ours - exact).norm(dim=1)
    require(float(difference.mean()) < 0.02, f"TV-L1 is {difference.mean():.3f} px off on average")
    return {"implementation": implementation_for(options.device).__name__, "mean_px": float(difference.mean())}


def check_networks(options: Namespace) -> Figures:
    """Compare the logits of optimized networks with float64 on the CPU, in standard deviations."""
    found = {}
    for network, _, stream in (name.partition(":") for name in NETWORKS):
        case = Case(f"{network}_tiny", stream or "default", 0, 1, "cpu")
        torch.manual_seed(0)
        model = build_model(case.network, stream=stream or None, num_classes=20).eval()
        sizes = [(s.channels, s.num_frames, model.spec.size_px, model.spec.size_px) for s in model.spec.streams]
        inputs = [torch.rand(2, *size) * 2 - 1 for size in sizes]
        with torch.inference_mode():
            exact = optimize(model.double())(*(x.double() for x in inputs))
            for precision, tf32, allowed in (
                ("float32", False, 1e-3),
                ("float32", True, 0.05),
                ("bfloat16", True, 0.2),
            ):
                fast = optimize(model.float().to(options.device), precision=precision)  # type: ignore[arg-type]
                torch.backends.cudnn.allow_tf32 = tf32
                drift = float((fast(*(x.to(options.device) for x in inputs)).cpu() - exact).abs().max() / exact.std())
                torch.backends.cudnn.allow_tf32 = True
                name = "TF32" if tf32 and precision == "float32" else precision
                found[f"{network}{stream and ' ' + stream} {name}"] = drift
                require(drift < allowed, f"{network} in {name} is {drift:.2g} standard deviations off")
    return found


def check_training(options: Namespace) -> Figures:
    """Largest difference of the gradients to those on the CPU, in float64, over their largest."""
    found = {}
    for device in ("cpu", options.device):
        torch.manual_seed(0)
        model = build_model("i3d_tiny", num_classes=5, dropout=0.0).double().to(device).channels_last().train()
        x = torch.rand(4, 3, 16, 64, 64, generator=torch.Generator().manual_seed(1)).double().to(device) * 2 - 1
        model.loss(model(x), torch.arange(4, device=device)).backward()
        found[device] = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
    theirs, ours = found["cpu"], found[options.device]
    difference = float((theirs - ours).abs().max() / theirs.abs().max())
    require(difference < 1e-6, f"gradients are {difference:.2g} off")
    return {"gradients": difference}


def require(fine: bool, otherwise: str) -> None:
    if not fine:
        raise AssertionError(otherwise)


def measure_flow(options: Namespace) -> Figures:
    frames = to_gray(moving_frames(17 if options.small else 65, 256, 340)).to(options.device)
    found: Figures = {}
    for size in (8,) if options.small else (8, 16, 32, 64):

        def work(size: int = size) -> None:
            for at in range(0, len(frames) - 1, size):
                part = frames[at : at + size + 1]
                tvl1(part[:-1], part[1:])

        work()
        seconds = [clock(work, options.device)[0] for _ in range(options.rounds)]
        found[f"pairs a second, {size} at a time"] = (len(frames) - 1) / statistics.median(seconds)
    return found


def measure_networks(options: Namespace) -> Figures:
    rows = []
    ways = ("plain", "optimize") if options.small else ("plain", "ours", "optimize", "optimize-bf16")
    cases = [Case("i3d", "rgb", 64, batch, options.device) for batch in ((1,) if options.small else (1, 8, 32))]
    if options.small:
        cases = [Case("i3d_tiny", "rgb", 16, 1, options.device)]
    else:
        cases += [Case("i3d", kind, 250, 1, options.device) for kind in ("rgb", "flow")]
    torch.set_grad_enabled(False)
    for case in cases:
        rows += measure(case, Namespace(ways=ways, port=None, rounds=options.rounds, memory=False))
    for name in () if options.small else NETWORKS[2:]:
        spec = build_model(name).spec
        case = Case(name, spec.stream, spec.streams[0].num_frames, 8, options.device)
        rows += measure(case, Namespace(ways=ways, port=None, rounds=options.rounds, memory=False))
    torch.set_grad_enabled(True)
    print_rows(rows)
    return {"rows": [asdict(row) for row in rows]}


def measure_compiled(options: Namespace) -> Figures:
    """``torch.compile`` with its search for the fastest kernels, which takes minutes, against the plain port."""
    case = Case("i3d", "rgb", 64, 8, options.device)
    if options.small:
        case = Case("i3d_tiny", "rgb", 16, 1, options.device)
    with torch.inference_mode():
        rows = measure(case, Namespace(ways=("plain", "compile-bf16"), port=None, rounds=options.rounds, memory=False))
    print_rows(rows)
    return {"rows": [asdict(row) for row in rows]}


def measure_steps(options: Namespace) -> Figures:
    """Measure training steps of I3D in all ways, and of every network in bfloat16."""
    frames, batch = (16, 2) if options.small else (64, 8)
    network = "i3d_tiny" if options.small else "i3d"
    rows = measure_training(Case(network, "rgb", frames, batch, options.device), Namespace(rounds=options.rounds))
    print_rows(rows)
    found: Figures = {"rows": [asdict(row) for row in rows]}
    for name, _, stream in (n.partition(":") for n in NETWORKS):
        network = f"{name}_tiny" if options.small else name
        found[f"{name}{stream and ' ' + stream}"] = train_step(network, stream or None, batch, options)
    return found


def train_step(network: str, stream: str | None, batch: int, options: Namespace) -> Figures:
    model = build_model(network, stream=stream).to(options.device).channels_last().train()
    spec = model.spec
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
    labels = torch.arange(batch, device=options.device)
    sizes = [(batch, s.channels, s.num_frames, spec.size_px, spec.size_px) for s in spec.streams]
    inputs = [torch.rand(size, device=options.device) * 2 - 1 for size in sizes]
    inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
    half = options.device != "cpu"

    def step() -> None:
        with torch.autocast(options.device, torch.bfloat16, enabled=half):
            loss = model.loss(model(*inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    if half:
        torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(clock(step, options.device)[0] for _ in range(options.rounds))
    memory = torch.cuda.max_memory_allocated() / 2**20 if half else math.nan
    return {"ms": 1000 * seconds, "clips_per_second": batch / seconds, "peak_mib": memory}


def measure_end_to_end(options: Namespace) -> Figures:
    """Measure two-stream inference from frames on the host to logits."""
    name, num_frames = ("i3d_tiny", 32) if options.small else ("i3d", 250)
    precision = "float32" if options.device == "cpu" else "bfloat16"
    models = {
        kind: optimize(build_model(name, stream=kind).to(options.device), precision=precision)  # type: ignore[arg-type]
        for kind in ("rgb", "flow")
    }
    spec = models["rgb"].spec
    frames = moving_frames(num_frames, 360, 480)
    parts: dict[str, float] = {}

    def timed(part: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        if options.device != "cpu":
            torch.cuda.synchronize()
        parts[part] = time.perf_counter() - begin
        return result

    def crop(x: Tensor) -> Tensor:
        top, left = ((side - spec.size_px) // 2 for side in x.shape[-2:])
        return x[..., top : top + spec.size_px, left : left + spec.size_px]

    def answer() -> Tensor:
        moved = timed("to the device", lambda: frames.to(options.device))
        small = timed("resizing", lambda: resize_frames(moved, spec.short_side_px))
        flow = timed("TV-L1", lambda: estimate_flow(small, "tvl1", device=options.device))
        seen = {"rgb": small, "flow": encode_flow(flow.to(options.device))}
        logits = []
        for kind, model in models.items():
            clip = to_model(crop(seen[kind])[None])
            logits.append(timed(f"{kind} network", partial(model, clip)))
        return torch.stack(logits).sum(0)

    with torch.inference_mode():
        answer()
        seconds = statistics.median(clock(answer, options.device)[0] for _ in range(options.rounds))
    return {"seconds": seconds, "times_real_time": num_frames / FPS / seconds, **parts}


PARTS: dict[str, Callable[[Namespace], Figures]] = {
    "check flow": check_flow,
    "check networks": check_networks,
    "check training": check_training,
    "flow": measure_flow,
    "end to end": measure_end_to_end,
    "networks": measure_networks,
    "training": measure_steps,
    "compiled": measure_compiled,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny networks, to try the script")
    usual = [name for name in PARTS if name != "compiled"]
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=usual, help="default: all but compiled")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="written after every part")
    options = parser.parse_args()
    print(f"{describe_machine()}\n")
    found: dict[str, Any] = {"machine": describe_machine(), "device": options.device, "small": options.small}
    failed = False
    for name in options.parts:
        begin = time.perf_counter()
        try:
            found[name] = PARTS[name](options)
        except Exception as error:  # the other parts are worth having
            traceback.print_exc()
            found[name], failed = {"failed": f"{type(error).__name__}: {error}"}, True
        print(f"\n## {name}, {time.perf_counter() - begin:.0f} s")
        for key, value in found[name].items():
            if key != "rows":
                print(f"- {key}: {value:.4g}" if isinstance(value, float) else f"- {key}: {value}")
        sys.stdout.flush()
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=1) + os.linesep)
    sys.exit(failed)


if __name__ == "__main__":
    main()
