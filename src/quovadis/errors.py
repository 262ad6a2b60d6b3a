"""Exceptions for errors that a user can cause.

Each is a :class:`QuovadisError` and also the matching builtin exception: ``except QuovadisError`` catches all of them,
and ``except FileNotFoundError`` works as usual::

    QuovadisError
    ├── VideoError (OSError)                  not a video, or cannot be decoded
    │   ├── VideoNotFoundError (FileNotFoundError)
    │   └── VideoDamagedError                 partly decodable: truncated or with broken frames
    ├── TooFewFramesError (ValueError)        fewer frames than needed
    ├── InvalidInputError (ValueError)        wrong shape or value of a tensor or argument
    ├── InvalidTypeError (TypeError)          wrong type of a tensor or argument
    ├── UnknownNameError (LookupError)        no model, recipe, protocol ... with this name
    ├── DatasetError (ValueError)             unusable annotation file or folder of videos
    ├── WeightsError (ValueError)             weights file that is broken, unsafe or does not fit
    ├── DownloadError (OSError)               file not available, or received with wrong bytes
    ├── TrainingError (RuntimeError)          run that cannot start or continue
    │   └── LossNotFiniteError (ArithmeticError)
    ├── StorageError (OSError)                cannot write: disk full, no permission
    ├── JobError (RuntimeError)               a worker process died
    │   └── OtherProcessError                 another process of the run failed and reports why
    └── MissingExtraError (ImportError)       optional dependency not installed

A message says what is wrong, what was given, what is expected and how to fix it.
"""

import difflib
from collections.abc import Iterable

_MAX_NAMES = 30
"""Most names that an error lists. A dataset may have hundreds of classes."""


class QuovadisError(Exception):
    """Base class of the exceptions in this module."""


class VideoError(QuovadisError, OSError):
    """A file cannot be opened or decoded as a video."""


class VideoNotFoundError(VideoError, FileNotFoundError):
    """A video file does not exist."""


class VideoDamagedError(VideoError):
    """A video can be decoded only in part."""


class TooFewFramesError(QuovadisError, ValueError):
    """A clip has fewer frames than needed, and the policy for short clips is ``error``."""


class InvalidInputError(QuovadisError, ValueError):
    """A tensor or an argument has the wrong shape or value."""


class InvalidTypeError(QuovadisError, TypeError):
    """A tensor or an argument has the wrong type."""


class UnknownNameError(QuovadisError, LookupError):
    """A model, recipe, protocol or other object with the given name does not exist."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Create the error for an unknown name, with the closest known names as suggestions.

        Args:
            kind: Kind of object, for example ``"model"``.
            name: The unknown name.
            known: All valid names.

        >>> print(UnknownNameError.among("model", "i3f", ["i3d", "conv3d"]))
        unknown model 'i3f'; did you mean 'i3d'? Known: conv3d, i3d
        """
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=2)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return cls(f"unknown {kind} {name!r}; {hint}Known: {', '.join(names[:_MAX_NAMES]) or 'none'}{more}")


class DatasetError(QuovadisError, ValueError):
    """An annotation file or a folder of videos cannot be used as a dataset."""


class WeightsError(QuovadisError, ValueError):
    """A weights file is broken or does not fit the model."""


class DownloadError(QuovadisError, OSError):
    """A file cannot be downloaded, or wrong bytes were received."""


class TrainingError(QuovadisError, RuntimeError):
    """A training run cannot start or continue."""


class LossNotFiniteError(TrainingError, ArithmeticError):
    """The loss or a gradient is NaN or infinite. The last good checkpoint is kept."""


class StorageError(QuovadisError, OSError):
    """A file cannot be written. An existing file is unchanged."""


class JobError(QuovadisError, RuntimeError):
    """A worker process died. Finished results are kept."""


class OtherProcessError(JobError):
    """Another process of the same run failed first and reports the reason."""


class MissingExtraError(QuovadisError, ImportError):
    """An optional dependency of quovadis is not installed."""
