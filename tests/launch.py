"""Start groups of distributed processes."""

import faulthandler
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_SECONDS = 120
# The fork server imports PyTorch once, so that processes start quickly.
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["torch", "quovadis.training.loop", "tests.launch"])


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a process."""

    code: int | None
    stdout: str
    stderr: str


def launch(script: str, num_processes: int) -> list[Ended]:
    """Run ``script`` in a process group, without a launcher that stops all processes if one fails."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        started = [
            _FORKSERVER.Process(target=_run, args=(script, rank, num_processes, port, folder))
            for rank in range(num_processes)
        ]
        for process in started:
            process.start()
        try:
            for process in started:
                process.join(_SECONDS)
            hanging = [rank for rank, process in enumerate(started) if process.is_alive()]
        finally:
            for process in started:
                process.kill()
        texts = [[(Path(folder) / f"{name}{rank}").read_text() for name in "oe"] for rank in range(num_processes)]
        assert not hanging, f"processes {hanging} did not end within {_SECONDS} s: {texts}"
        return [Ended(p.exitcode, *text) for p, text in zip(started, texts, strict=True)]


def _run(script: str, rank: int, num_processes: int, port: int, folder: str) -> None:
    """In a new process: put its output into files, tell it who the others are, and begin."""
    import torch

    for name, number in (("o", 1), ("e", 2)):
        file = os.open(f"{folder}/{name}{rank}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    # The fork server of this test process may have been started for data-loading workers, with signals blocked.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
    faulthandler.dump_traceback_later(_SECONDS - 10)
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    exec(compile(script, "<script>", "exec"), {"__name__": "script"})


def torchrun(arguments: list[str], num_processes: int) -> subprocess.Popen[str]:
    """Start ``quovadis`` with torchrun; stdout and stderr are one stream."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(num_processes)]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", "quovadis"]
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)]),
    }
    return subprocess.Popen(
        [*launcher, *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
