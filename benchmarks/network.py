"""How fast are the networks on each backend, and how much memory do they use?

    python -m benchmarks.network [--networks i3d ...] [--ways plain optimize ...]

Peers: the structure of the PyTorch ports (:mod:`benchmarks.plain_port`), OpenVINO, ONNX Runtime, a copy of pytorch-i3d,
and with ``--peers`` the video networks of torchvision. For each network, length and batch size, all ways of running it
are interleaved (A B C A B C ...) on the same input. The table contains:

- seconds and CPU-seconds: medians over the rounds; CPU-seconds are less affected by other processes
- times faster: compared with the first way
- fraction: arithmetic of the direct convolution per second, divided by that of a large matrix product in the same
  rounds; above 100 % if a way needs less arithmetic
- drift: largest difference of the logits from those of the first way, in standard deviations
- peak MiB: memory of a new process (VmHWM) that runs the way once; on a GPU, memory that PyTorch's
  allocator hands out during one run, without weights and inputs

``--ways``: plain (the structure of the PyTorch ports; for networks other than I3D, quovadis before ``optimize``), ours
(before ``optimize``, channels last), optimize, compile (both also with -bf16), openvino, onnxruntime, port (a copy of
pytorch_i3d.py at ``--port``). Ways whose package is not installed are skipped. On a CPU without AVX-512 BF16 or AMX,
bfloat16 is emulated and slow.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import describe_machine
from benchmarks.plain_port import PlainPort
from quovadis.models.i3d import I3D
from quovadis.models.layers import ShiftBatchNorm
from quovadis.models.optimization import InferenceModel, optimize
from quovadis.models.spec import StreamKind
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model

WAYS = ("plain", "ours", "optimize", "optimize-bf16", "compile", "compile-bf16", "openvino", "onnxruntime", "port")
TRAINING_WAYS = ("plain", "ours", "ours-bf16")
PEERS = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
NUM_CLASSES = 400

Work = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A network and its input."""

    network: str
    stream: str
    num_frames: int
    batch: int
    device: str

    def describe(self) -> str:
        return f"{self.network} ({self.stream}), {self.num_frames} frames, batch {self.batch}"

    def model(self) -> VideoModel:
        """Build the network with random weights and random batch norm statistics."""
        torch.manual_seed(0)
        model = build_model(self.network, stream=self.stream, num_classes=NUM_CLASSES)
        for module in model.modules():
            if isinstance(module, ShiftBatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.2, 0.4)
        return model.eval().to(self.device)

    def inputs(self, model: VideoModel) -> list[Tensor]:
        torch.manual_seed(1)
        spec = model.spec
        first = spec.streams[0].num_frames
        lengths = [s.num_frames * self.num_frames // first for s in spec.streams]
        size = spec.size_px
        return [
            torch.rand(self.batch, s.channels, n, size, size, device=self.device) * 2 - 1
            for s, n in zip(spec.streams, lengths, strict=True)
        ]


@dataclass(frozen=True)
class Row:
    """Measurements of one way of running a case."""

    case: str
    way: str
    seconds: float
    cpu_seconds: float
    clips_per_second: float
    times_faster: float
    """Compared with the first way: median of the ratios, of CPU-seconds on a CPU and of seconds on a GPU."""
    fraction: float
    drift: float
    peak_mib: float


def work_of(way: str, case: Case, port: Path | None) -> Work:
    """Build the model and return a function that runs its forward pass."""
    model = case.model()
    inputs = case.inputs(model)
    if way == "plain" and isinstance(model, I3D):
        plain = PlainPort(model)
        return lambda: plain(*inputs)
    if way == "plain":
        return lambda: model(*inputs)
    if way == "port":
        theirs = load_port(port, case).to(case.device).eval()
        return lambda: theirs(*inputs)
    if way == "ours":
        model.channels_last()
        laid = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
        return lambda: model(*laid)
    if way == "onnxruntime":
        return in_onnxruntime(model, inputs)
    fast = optimized(model, way)
    return lambda: fast(*inputs)


def optimized(model: VideoModel, way: str) -> InferenceModel:
    if way.endswith("-bf16"):
        return optimize(model, precision="bfloat16", backend="compile" if way.startswith("compile") else "torch")
    if way in ("compile", "openvino"):
        return optimize(model, backend=way)  # type: ignore[arg-type]
    return optimize(model)


def load_port(path: Path | None, case: Case) -> nn.Module:
    """Build ``InceptionI3d`` of a copy of pytorch_i3d.py, with random weights."""
    assert path is not None
    spec = importlib.util.spec_from_file_location("port", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.InceptionI3d(NUM_CLASSES, in_channels=3 if case.stream == "rgb" else 2)


def in_onnxruntime(model: VideoModel, inputs: list[Tensor]) -> Work:
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model, tuple(inputs), dynamo=True, verbose=False)
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {given.name: x.numpy() for given, x in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def matrix_product(device: str, dtype: torch.dtype) -> tuple[Work, float]:
    """A large one, and its arithmetic in GFLOP; on a GPU float32 is TF32, as it is in PyTorch's convolutions."""
    side = 2048 if device == "cpu" else 8192
    a = torch.randn(side, side, device=device).to(dtype)

    def product() -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest" if device == "cpu" else "high")
        torch.mm(a, a)
        torch.set_float32_matmul_precision(before)

    return product, 2 * side**3 / 1e9


def gflop_of(case: Case, *, training: bool = False) -> float:
    """Count the arithmetic of the direct convolutions on meta tensors."""
    with torch.device("meta"):
        model = build_model(case.network, stream=case.stream, num_classes=NUM_CLASSES).train(training)
        inputs = [torch.empty_like(x, device="meta") for x in Case(**{**asdict(case), "device": "meta"}).inputs(model)]
    with FlopCounterMode(display=False) as counter:
        outputs = model(*inputs)
        if training:
            outputs.sum().backward()
    return counter.get_total_flops() / 1e9


def clock(work: Work, device: str) -> tuple[float, float]:
    """Measure seconds and CPU-seconds."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter(), time.process_time()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def interleaved(works: dict[str, Work], rounds: int, device: str) -> dict[str, list[tuple[float, float]]]:
    """Measure all functions in turns, after one warm-up run of each."""
    for work in works.values():
        work()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(clock(work, device))
    return times


def missing(way: str, case: Case, options: argparse.Namespace) -> str:
    """Return why a way cannot be run, or ``""``."""
    if way in ("openvino", "onnxruntime"):
        if case.device != "cpu":
            return "is only measured on a CPU"
        if importlib.util.find_spec(way) is None:
            return "is not installed"
    if way == "port" and (options.port is None or case.network != "i3d"):
        return "requires --port and the network i3d"
    return ""


def measure(case: Case, options: argparse.Namespace) -> list[Row]:
    """Measure all ways of running a case."""
    works: dict[str, Work] = {}
    memory: dict[str, float] = {}
    for way in options.ways:
        reason = missing(way, case, options)
        if reason:
            print(f"{case.describe()}: {way} {reason}", file=sys.stderr)
            continue
        print(f"{case.describe()}: building {way}", file=sys.stderr, flush=True)
        works[way] = work_of(way, case, options.port)
        if case.device != "cpu":  # the first run: a graph that is replayed allocates nothing
            memory[way] = working_mib(works[way])
    reference = next(iter(works.values()))().double()
    products = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        if name == "float32" or any(way.endswith("bf16") for way in works):
            products[name] = matrix_product(case.device, dtype)
    named = works | {name: product for name, (product, _) in products.items()}
    times = interleaved(named, options.rounds, case.device)
    gflop, column = gflop_of(case), 1 if case.device == "cpu" else 0
    first = times[next(iter(works))]
    rows = []
    for way, work in works.items():
        own = times[way]
        precision = "bfloat16" if way.endswith("bf16") else "float32"
        rate = products[precision][1] / statistics.median(t[column] for t in times[precision])
        seconds, cpu_seconds = (statistics.median(t[i] for t in own) for i in (0, 1))
        drift = float((work().double() - reference).abs().max() / reference.std())
        rows.append(
            Row(
                case.describe(),
                way,
                seconds,
                cpu_seconds,
                case.batch / seconds,
                statistics.median(a[column] / b[column] for a, b in zip(first, own, strict=True)),
                gflop / statistics.median(t[column] for t in own) / rate,
                float("nan") if way == "port" else drift,  # it has other weights
                memory[way] if way in memory else peak_mib(way, case, options),
            )
        )
    return rows


def peak_mib(way: str, case: Case, options: argparse.Namespace) -> float:
    """Measure the peak memory of a new process that runs the way once."""
    if not options.memory:
        return float("nan")
    command = [sys.executable, "-m", "benchmarks.network", "--child", json.dumps({**asdict(case), "way": way})]
    command += ["--port", str(options.port)] if options.port else []
    answer = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    return float(answer.splitlines()[-1])


def working_mib(work: Work) -> float:
    """Memory of the GPU that one run takes, without weights and inputs."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def child(task: dict[str, Any], port: Path | None) -> None:
    way, case = task.pop("way"), Case(**task)
    with torch.inference_mode():
        work_of(way, case, port)()
    if case.device != "cpu":
        print(torch.cuda.max_memory_allocated() / 2**20)
        return
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
    print(int(line.split()[1]) / 2**10)


def training_step(way: str, case: Case) -> Work:
    """Return a function that runs forward, backward and a step of SGD with momentum."""
    model = case.model()
    x, labels = case.inputs(model), torch.arange(case.batch, device=case.device)
    trained: nn.Module = PlainPort(model) if way == "plain" and isinstance(model, I3D) else model
    if way != "plain":
        model.channels_last()
        x = [stream.contiguous(memory_format=torch.channels_last_3d) for stream in x]
    trained.train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(case.device, torch.bfloat16, enabled=way.endswith("bf16")):
            loss = model.loss(trained(*x), labels)
        loss.backward()
        optimizer.step()

    return step


def measure_training(case: Case, options: argparse.Namespace) -> list[Row]:
    works = {way: training_step(way, case) for way in TRAINING_WAYS}
    product, product_gflop = matrix_product(case.device, torch.float32)
    times = interleaved(works | {"product": product}, options.rounds, case.device)
    gflop, column = gflop_of(case, training=True), 1 if case.device == "cpu" else 0
    rate = product_gflop / statistics.median(t[column] for t in times["product"])
    rows = []
    for way in works:
        seconds, cpu_seconds = (statistics.median(t[i] for t in times[way]) for i in (0, 1))
        ratios = [a[column] / b[column] for a, b in zip(times["plain"], times[way], strict=True)]
        fraction = gflop / (cpu_seconds if column else seconds) / rate
        what = f"training step, {case.describe()}"
        nan = float("nan")
        rows.append(
            Row(what, way, seconds, cpu_seconds, case.batch / seconds, statistics.median(ratios), fraction, nan, nan)
        )
    return rows


def measure_peers(options: argparse.Namespace) -> list[Row]:
    """Measure the video networks of torchvision with 64 frames of 224 x 224."""
    if importlib.util.find_spec("torchvision") is None:
        print("torchvision is not installed", file=sys.stderr)
        return []
    from torchvision.models import video

    x = torch.rand(1, 3, 64, 224, 224, device=options.device) * 2 - 1
    rows = []
    for name in PEERS:
        model = getattr(video, name)().eval().to(options.device)
        with FlopCounterMode(display=False) as counter:
            model(x)
        product, product_gflop = matrix_product(options.device, torch.float32)
        works: dict[str, Work] = {"eager": lambda: model(x), "product": product}  # noqa: B023
        times = interleaved(works, options.rounds, options.device)
        column = 1 if options.device == "cpu" else 0
        own = statistics.median(t[column] for t in times["eager"])
        fraction = counter.get_total_flops() / 1e9 / own
        fraction /= product_gflop / statistics.median(t[column] for t in times["product"])
        seconds, cpu_seconds = (statistics.median(t[i] for t in times["eager"]) for i in (0, 1))
        nan = float("nan")
        what = f"torchvision {name} ({counter.get_total_flops() / 1e9:.0f} GFLOP), 64 frames, batch 1"
        rows.append(Row(what, "eager", seconds, cpu_seconds, 1 / seconds, nan, fraction, nan, nan))
    return rows


def print_rows(rows: list[Row]) -> None:
    def number(value: float, form: str) -> str:
        return "-" if value != value else format(value, form)

    for r in rows:
        print(
            f"| {r.case} | {r.way} | {r.seconds:.3f} | {r.cpu_seconds:.3f} | {r.clips_per_second:.2f} "
            f"| {number(r.times_faster, '.2f')} | {number(r.fraction, '.0%')} | {number(r.drift, '.1e')} "
            f"| {number(r.peak_mib, '.0f')} |",
            flush=True,
        )


def cases_of(options: argparse.Namespace) -> list[Case]:
    """List the cases: I3D with each requested length, and other networks with their training length."""
    cases = []
    for name in options.networks:
        network, _, stream = name.partition(":")
        spec = build_model_spec(network, stream or None)
        lengths = options.frames if network == "i3d" else [spec.streams[0].num_frames]
        kinds: list[StreamKind] = [s.kind for s in spec.streams]
        for frames in lengths:
            cases += [Case(network, "+".join(kinds), frames, batch, options.device) for batch in options.batch]
    return cases


def build_model_spec(network: str, stream: str | None) -> Any:
    with torch.device("meta"):
        return build_model(network, stream=stream).spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["i3d", "i3d:flow"], help="NAME or NAME:STREAM")
    parser.add_argument("--all", action="store_true", help="all five networks of the paper")
    parser.add_argument("--frames", type=int, nargs="+", default=[64], help="for I3D; the paper uses 64 and 250")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="batch sizes")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["plain", "ours", "optimize"])
    parser.add_argument("--train", action="store_true", help="measure a training step of I3D, 4 clips of 16x224x224")
    parser.add_argument("--memory", action="store_true", help="measure the peak memory of a new process per way")
    parser.add_argument("--peers", action="store_true", help="measure the video networks of torchvision")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=Path, help="path of pytorch_i3d.py")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.port)
        return
    if options.all:
        options.networks = ["i3d", "i3d:flow", "convnet_lstm", "conv3d", "two_stream", "fused_two_stream"]
    print(f"{describe_machine()}, {torch.get_num_threads()} threads, {options.rounds} rounds\n")
    print("| case | way | s | CPU-s | clips/s | times faster | fraction | drift | peak MiB |")
    print("| --- " * 9 + "|")
    rows: list[Row] = []
    with torch.inference_mode():
        for case in cases_of(options):
            rows += measure(case, options)
            print_rows([r for r in rows if r.case == case.describe()])
        if options.peers:
            peers = measure_peers(options)
            print_rows(peers)
            rows += peers
    if options.train:
        steps = measure_training(Case("i3d", "rgb", 16, 4, options.device), options)
        print_rows(steps)
        rows += steps
    if options.json is not None:
        facts = {"machine": describe_machine(), "threads": torch.get_num_threads(), "rounds": options.rounds}
        options.json.write_text(json.dumps({**facts, "rows": [asdict(r) for r in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
