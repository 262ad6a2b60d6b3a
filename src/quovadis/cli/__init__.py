"""The command line: ``quovadis VERB ...``, one file a verb, loaded only when it is called."""

import io
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from quovadis import interrupts
from quovadis.errors import OtherProcessError, QuovadisError, StorageError, UnknownNameError
from quovadis.report.plain import print
from quovadis.version import __version__

VERBS = {
    "demo": "make a small dataset, train on it, measure, predict, and write a page: the whole system in minutes",
    "predict": "name the action in videos",
    "timeline": "what happens when in long videos: segments and a picture",
    "explain": "show where and when a network finds evidence for an action",
    "serve": "a page in the browser, and an HTTP API: actions, time line, flow, features",
    "watch": "name the actions in a camera, a stream or a file as it goes on",
    "data": "download, index, verify and describe datasets: Kinetics, UCF-101, HMDB-51, folders, tables",
    "prepare": "write a dataset once as the networks read it, with its flow, for fast training",
    "train": "make a model from labelled videos",
    "transfer": "train on a small dataset in three settings from a trained network, and measure each",
    "reproduce": "run the tables of the paper and print our numbers beside the published ones",
    "evaluate": "measure a model on labelled videos by a protocol",
    "fuse": "measure and fuse what evaluate --dump kept, without any network",
    "extract": "features of videos into files, for localisation, captioning, anomalies ...",
    "fvd": "the Frechet Video Distance of generated videos to real ones",
    "weights": "list, show, get, convert, verify and draw weights files, of other projects too",
    "export": "write a network for other runtimes: ONNX, torch.export, TorchScript; checked, with a card",
    "flow": "estimate the optical flow of videos and store it",
    "probe": "say what a video file is",
    "doctor": "say what works on this machine, and the command that mends what does not",
}

_USAGE = """usage: quovadis [--debug] VERB ...

Video action recognition: from a video file to the action, and from labelled videos to a model.

{verbs}

quovadis VERB --help says more. --version prints the version, --debug shows where an error arose."""


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
        width = max(map(len, VERBS))
        print(_USAGE.format(verbs="\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())))
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


def _replace_what_cannot_be_encoded() -> None:
    """Write the code point of a letter that the encoding of the output lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
