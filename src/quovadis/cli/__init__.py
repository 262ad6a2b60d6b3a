"""Command line ``quovadis COMMAND``. Each command is a module of this package, imported when it is run."""

import atexit
import errno
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from quovadis.errors import OtherProcessError, QuovadisError, StorageError, UnknownNameError
from quovadis.runtime import interrupts
from quovadis.runtime.memory import keep_freed_memory
from quovadis.runtime.plain_text import print
from quovadis.version import __version__

GROUPS = {
    "Recognize actions": {
        "predict": "name the actions in videos",
        "timeline": "find when actions happen in long videos: segments and a chart",
        "explain": "show where and when a network finds evidence for a class",
        "watch": "recognize actions live, from a camera or a stream",
        "serve": "open the web demo with its HTTP API",
        "demo": "try the main features on a small dataset and on your video, in minutes",
    },
    "Train": {
        "train": "train a model on labeled videos",
        "transfer": "train a pretrained network on small datasets in three settings, and evaluate each",
    },
    "Evaluate": {
        "evaluate": "evaluate a model on labeled videos",
        "fuse": "evaluate and fuse the scores written by evaluate --dump, without running a network",
        "reproduce": "run the tables of the paper and print the results next to the published ones",
    },
    "Datasets": {
        "data": "download, index, verify and describe datasets: Kinetics, UCF-101, HMDB-51, folders, tables",
        "prepare": "re-encode a dataset for fast training, with optical flow",
    },
    "Features, flow and metrics": {
        "extract": "extract features of videos to files",
        "flow": "estimate and store the optical flow of videos",
        "fvd": "compute the Frechet Video Distance between generated and real videos",
    },
    "Tools": {
        "weights": "list, download, convert, verify, draw and push weights",
        "export": "export a network to ONNX or torch.export",
        "probe": "describe video files",
        "doctor": "check this machine and print the command that fixes each problem",
    },
}
"""Descriptions of the commands by group."""

COMMANDS = {name: description for group in GROUPS.values() for name, description in group.items()}

_USAGE = """usage: quovadis [--version] [--debug] COMMAND ...

Classify actions in videos with I3D: pretrained networks, training, reproducible evaluation.

{groups}

Run quovadis COMMAND --help to list the options of a command. --debug prints the traceback of an error."""

_SECONDS_TO_EXIT = 1.0
_GC_THRESHOLDS = (50_000, 20, 20)
"""Fewer collections than by default, which take a tenth of the time to import PyTorch."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command.

    Errors that users can cause are printed on one line and exit with code 1; invalid usage exits with code 2. SIGINT,
    SIGTERM and SIGHUP stop the command with exit code 128 plus the signal number: 130, 143, 129.

    Args:
        argv: Command and arguments; by default those of the process.
    """
    if argv is None:
        gc.set_threshold(*_GC_THRESHOLDS)
    _escape_unencodable_characters()
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    with interrupts.stop_on_signals():
        try:
            try:
                _run(args)
            finally:
                sys.stdout.flush()  # raises here instead of at exit if the disk is full
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            code = _print_error(error)
            if argv is None and interrupts.received_signal() is not None:
                interrupts.exit_within(_SECONDS_TO_EXIT, code)
            sys.exit(code)
    if argv is None:
        _exit_without_finalizing()


def _exit_without_finalizing() -> None:
    """Exit the process after success.

    Finalizing the interpreter takes half a second with PyTorch. Threads of its process groups can abort the process
    meanwhile, and a launcher would report a failure.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _run(args: Sequence[str]) -> None:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_USAGE.format(groups="\n\n".join(map(_describe_group, GROUPS))))
    elif args[0] in ("-V", "--version"):
        print(f"quovadis {__version__}")
    elif args[0] in COMMANDS:
        keep_freed_memory()
        import_module(f"quovadis.cli.{args[0]}").main(args[1:])
    else:
        print(f"error: {UnknownNameError.among('command', args[0], COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def _print_error(error: Exception | KeyboardInterrupt) -> int:
    """Print an error and return the exit code. Unexpected errors are raised again."""
    number = interrupts.received_signal()
    if isinstance(error, KeyboardInterrupt) or number is not None:  # a stopped worker may raise another error
        message = str(error) if isinstance(error, KeyboardInterrupt) else ""
        print(message or "stopped", file=sys.stderr)
        return 128 + (number or signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
        return 141
    if isinstance(error, OtherProcessError):
        return 1
    if isinstance(error, OSError) and not isinstance(error, QuovadisError):
        if error.filename is not None:
            error = StorageError(f"{error.filename}: {error.strerror}")  # for example a path that is too long
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            with suppress(OSError):
                sys.stdout.close()  # Python would write its buffer again at exit
            error = StorageError(f"cannot write the output: {error.strerror}")
    if not isinstance(error, QuovadisError):
        raise error
    print(f"error: {error}", file=sys.stderr)
    return 1


def _describe_group(name: str) -> str:
    width = max(map(len, COMMANDS))
    return "\n".join([f"{name}:", *(f"  {command:<{width}}  {text}" for command, text in GROUPS[name].items())])


def _escape_unencodable_characters() -> None:
    """Escape characters that the encoding of the output lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
