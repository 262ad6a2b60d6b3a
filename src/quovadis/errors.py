"""Every error that a user can cause.

Each is a :class:`QuovadisError` and also the builtin that fits, so ``except QuovadisError`` catches all of ours
and ``except FileNotFoundError`` still works where one would expect it::

    QuovadisError
    ├── VideoError (OSError)                  the file is no video, or cannot be decoded
    │   ├── VideoNotFoundError (FileNotFoundError)
    │   └── VideoDamagedError                 it decodes in part: it ends early or has broken frames
    ├── TooFewFramesError (ValueError)        fewer frames than the work needs
    ├── InvalidInputError (ValueError)        a tensor or an argument with a wrong shape or value
    ├── InvalidTypeError (TypeError)          a tensor or an argument of a wrong type
    ├── UnknownNameError (LookupError)        no model, recipe, protocol ... of that name
    ├── DatasetError (ValueError)             an annotation file or folder that cannot be used
    ├── WeightsError (ValueError)             a weights file that does not fit or cannot be trusted
    ├── DownloadError (OSError)               a file that the network did not give, or gave wrongly
    ├── TrainingError (RuntimeError)          a run that cannot start or go on
    │   └── LossNotFiniteError (ArithmeticError)
    ├── StorageError (OSError)                writing failed: disk full, no permission
    ├── JobError (RuntimeError)               a worker process died
    │   └── OtherProcessError                 another process of the run failed first, and says why
    └── MissingExtraError (ImportError)       an optional part is not installed

A message says what happened, what was found, what was expected, and what to do.
"""

import difflib
from collections.abc import Iterable


class QuovadisError(Exception):
    """Any error that quovadis raises on purpose."""


class VideoError(QuovadisError, OSError):
    """A file that FFmpeg cannot open or decode as video."""


class VideoNotFoundError(VideoError, FileNotFoundError):
    """No file at that path."""


class VideoDamagedError(VideoError):
    """A video of which only a part could be decoded."""


class TooFewFramesError(QuovadisError, ValueError):
    """A clip with fewer frames than needed, where the policy for short clips is ``error``."""


class InvalidInputError(QuovadisError, ValueError):
    """A tensor or an argument whose shape or value does not fit."""


class InvalidTypeError(QuovadisError, TypeError):
    """A tensor or an argument of the wrong type."""


class UnknownNameError(QuovadisError, LookupError):
    """A name that nothing in the project has."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """The error for an unknown name, with the nearest known names suggested.

        Args:
            kind: what was looked for, for example ``"model"``.
            name: the name that was asked for.
            known: all names that exist.

        >>> print(UnknownNameError.among("model", "i3f", ["i3d", "conv3d"]))
        unknown model 'i3f'; did you mean 'i3d'? Known: conv3d, i3d
        """
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=2)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        return cls(f"unknown {kind} {name!r}; {hint}Known: {', '.join(names) or 'none'}")


class DatasetError(QuovadisError, ValueError):
    """An annotation file or a folder of videos that cannot be used as a dataset."""


class WeightsError(QuovadisError, ValueError):
    """A weights file that is broken, or that does not fit the model."""


class DownloadError(QuovadisError, OSError):
    """A file that the network did not give, or of which it gave wrong bytes."""


class TrainingError(QuovadisError, RuntimeError):
    """A training run that cannot start or cannot go on."""


class LossNotFiniteError(TrainingError, ArithmeticError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


class StorageError(QuovadisError, OSError):
    """A file could not be written; what was there before is still there."""


class JobError(QuovadisError, RuntimeError):
    """A worker process died; what was finished is kept."""


class OtherProcessError(JobError):
    """This process ends because another one of the same run failed first, and says why."""


class MissingExtraError(QuovadisError, ImportError):
    """An optional part of quovadis is not installed."""
