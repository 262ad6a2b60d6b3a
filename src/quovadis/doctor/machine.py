"""Checks of versions, processor, memory, GPUs and disk space."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from quovadis.doctor.finding import Finding
from quovadis.runtime.threads import SPIN_COUNT, container_cores, num_cores
from quovadis.version import __version__
from quovadis.weights.catalog import CATALOG
from quovadis.weights.download import cache_folder, is_cached

REQUIRED = (
    "torch",
    "numpy",
    "av",
    "numba",
    "safetensors",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "torchmetrics",
    "tyro",
    "rich",
    "matplotlib",
    "pillow",
    "platformdirs",
    "filelock",
    "jinja2",
)
"""Distributions that ``pip install quovadis`` installs."""

CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "neon", "asimd", "bf16")
"""Instruction sets that affect the speed of networks."""

MIN_FREE_BYTES = 2 * 1024**3
"""Disk space for the published weights and a small dataset."""


def versions() -> Iterator[Finding]:
    """Report the versions of Python, quovadis and its dependencies."""
    yield Finding("versions", "quovadis", "ok", __version__)
    yield Finding("versions", "python", "ok", f"{platform.python_version()}, {platform.platform()}")
    for name in REQUIRED:
        try:
            yield Finding("versions", name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding("versions", name, "broken", "not installed", f"pip install {name}")


def processors() -> Finding:
    """Report the cores that this process may use; in a container often fewer than the machine has."""
    quota = container_cores()
    found = f"{num_cores()} of {os.cpu_count()} cores"
    if quota is not None:
        found += f", limited to {quota:g} by the container"
    flags = cpu_flags()
    return Finding("machine", "processor", "ok", f"{found}; {platform.machine()} {' '.join(flags)}".rstrip())


def threads() -> Finding:
    """Report whether waiting threads of torch sleep."""
    found = f"{torch.get_num_threads()} threads of torch"
    policy, spins = os.environ.get("OMP_WAIT_POLICY", ""), os.environ.get("GOMP_SPINCOUNT", "")
    if policy.lower() == "active" or (spins and spins != str(SPIN_COUNT) and not policy):
        setting = f"OMP_WAIT_POLICY={policy}" if policy else f"GOMP_SPINCOUNT={spins}"
        remedy = "unset it: with other work on the machine, waiting threads make networks several times slower"
        return Finding("machine", "threads", "missing", f"{found}, {setting} set by you", remedy)
    return Finding("machine", "threads", "ok", f"{found}; waiting threads sleep")


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the :data:`CPU_FLAGS` of the processor; empty if unknown."""
    if not cpuinfo.is_file():
        return []
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    known = next((set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")), set())
    return [flag for flag in CPU_FLAGS if flag in known]


def memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Report the available memory and the limit of the container."""
    if not meminfo.is_file():
        return Finding("machine", "memory", "ok", "unknown on this system")
    kilobytes = {key: int(rest.split()[0]) for key, rest in _pairs(meminfo) if rest.split()}
    found = f"{_gib(kilobytes['MemAvailable'] * 1024)} available of {_gib(kilobytes['MemTotal'] * 1024)}"
    limit_file = cgroup / "memory.max"
    limit = limit_file.read_text().strip() if limit_file.is_file() else "max"
    return Finding("machine", "memory", "ok", found + (f"; limited to {_gib(int(limit))}" if limit != "max" else ""))


def gpus() -> list[Finding]:
    """Report the GPUs that torch can use."""
    if not torch.cuda.is_available():
        build = torch.version.cuda or torch.version.hip
        found = f"torch {torch.__version__} does not find a GPU"
        remedy = (
            "check the driver: nvidia-smi"
            if build
            else "for an NVIDIA GPU, install a CUDA build of torch: https://pytorch.org/get-started/locally"
        )
        return [Finding("machine", "gpu", "missing", found, remedy)]
    found_gpus = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found = f"{properties.name}, {_gib(properties.total_memory)}, capability {properties.major}.{properties.minor}"
        found_gpus.append(Finding("machine", f"gpu {number}", "ok", found))
    return found_gpus


def cache() -> Finding:
    """Report the cache folder of weights, whether it is writable, and the free disk space."""
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    weights = sum(is_cached(entry, folder) for entry in CATALOG.values())
    found = f"{folder}: {weights} set{'s' * (weights != 1)} of weights, {_gib(free)} free"
    move = "export QUOVADIS_CACHE=FOLDER, with a writable folder on a disk with enough free space"
    if not os.access(existing, os.W_OK):
        return Finding("machine", "cache", "broken", f"{found}; it is not writable", move)
    if free < MIN_FREE_BYTES:
        return Finding("machine", "cache", "broken", f"{found}; at least {_gib(MIN_FREE_BYTES)} are needed", move)
    return Finding("machine", "cache", "ok", found)


def _pairs(file: Path) -> list[tuple[str, str]]:
    return [(key, rest) for key, _, rest in (line.partition(":") for line in file.read_text().splitlines())]


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 1024**3:.1f} GiB"
