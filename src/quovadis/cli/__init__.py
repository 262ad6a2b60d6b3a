"""The command line: ``quovadis VERB ...``, one file a verb, loaded only when it is called."""

import io
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from quovadis.errors import OtherProcessError, QuovadisError, StorageError, UnknownNameError
from quovadis.runtime import interrupts
from quovadis.runtime.plain_text import print
from quovadis.version import __version__

GROUPS = {
    "Recognize actions": {
        "predict": "name the action in videos",
        "timeline": "find what happens when in long videos: segments and a picture",
        "explain": "show where and when a network finds evidence for an action",
        "watch": "name the actions in a camera or a stream while it runs",
        "serve": "open the web demo and its HTTP API",
        "demo": "try everything on a small dataset and on your video, in minutes",
    },
    "Train": {
        "train": "train a model on labeled videos",
        "transfer": "train on a small dataset from a pretrained network, in three settings, and evaluate each",
    },
    "Evaluate": {
        "evaluate": "evaluate a model on labeled videos by a protocol",
        "fuse": "evaluate and fuse the scores that evaluate --dump wrote, without a network",
        "reproduce": "run the tables of the paper and print the results next to the published ones",
    },
    "Datasets": {
        "data": "download, index, verify and describe datasets: Kinetics, UCF-101, HMDB-51, folders, tables",
        "prepare": "re-encode a dataset for fast training, with optical flow",
    },
    "Features, flow and metrics": {
        "extract": "write features of videos to files",
        "flow": "estimate the optical flow of videos and store it",
        "fvd": "compute the Frechet Video Distance of generated videos to real ones",
    },
    "Tools": {
        "weights": "list, download, convert, verify, draw and push weights",
        "export": "write a network for other runtimes: ONNX, torch.export, TorchScript",
        "probe": "describe a video file",
        "doctor": "check this machine and print the command that fixes each problem",
    },
}
"""The commands by what they are for."""

VERBS = {verb: what for group in GROUPS.values() for verb, what in group.items()}

_USAGE = """usage: quovadis [--debug] VERB ...

Video action recognition with I3D.

{verbs}

quovadis VERB --help lists the options. --version prints the version, --debug prints the traceback of an error."""


_SECONDS_TO_EXIT = 1.0


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command.

    Errors that a user can cause become one line and exit code 1, wrong usage exit code 2. SIGINT, SIGTERM and SIGHUP
    stop the command with exit code 128 plus the number of the signal: 130, 143, 129.
    """
    _replace_what_cannot_be_encoded()
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    if not args or args[0] in ("-h", "--help", "help"):
        print(_USAGE.format(verbs="\n\n".join(_describe_group(name) for name in GROUPS)))
        return
    if args[0] in ("-V", "--version"):
        print(f"quovadis {__version__}")
        return
    if args[0] not in VERBS:
        print(f"error: {UnknownNameError.among('verb', args[0], VERBS)}", file=sys.stderr)
        sys.exit(2)
    with interrupts.stop_on_signals():
        try:
            import_module(f"quovadis.cli.{args[0]}").main(args[1:])
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            code = _explain(error)
            if argv is None and interrupts.received_signal() is not None:
                interrupts.exit_within(_SECONDS_TO_EXIT, code)
            sys.exit(code)


def _explain(error: Exception | KeyboardInterrupt) -> int:
    """Print why a command ends early; returns the exit code. What users cannot cause is raised again."""
    number = interrupts.received_signal()
    if isinstance(error, KeyboardInterrupt) or number is not None:  # a stopped worker process may cause another error
        print("stopped", file=sys.stderr)
        return 128 + (number or signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
        return 141
    if isinstance(error, OtherProcessError):
        return 1
    if isinstance(error, OSError) and not isinstance(error, QuovadisError) and error.filename is not None:
        error = StorageError(f"{error.filename}: {error.strerror}")  # a path that no room checks: too long, no access
    if not isinstance(error, QuovadisError):
        raise error
    print(f"error: {error}", file=sys.stderr)
    return 1


def _describe_group(name: str) -> str:
    width = max(map(len, VERBS))
    return "\n".join([f"{name}:", *(f"  {verb:<{width}}  {what}" for verb, what in GROUPS[name].items())])


def _replace_what_cannot_be_encoded() -> None:
    """Write the code point of a letter that the encoding of the output lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
