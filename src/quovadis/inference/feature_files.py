"""Features on disk: ``.npy`` files that grow row by row and appear whole, each with a ``.json`` about what it is."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from quovadis.errors import InvalidInputError, StorageError, TooFewFramesError
from quovadis.flow.codec import preset_for
from quovadis.flow.flow_files import VideoFingerprint
from quovadis.inference.feature_presets import FeaturePreset
from quovadis.inference.features import FeatureExtractor, FeatureRows
from quovadis.models.spec import StreamKind
from quovadis.runtime.atomic import PartialFile, atomic_path, write_atomically
from quovadis.version import __version__

FORMAT_VERSION = 1
_HEADER_BYTES = 128


@dataclass(frozen=True)
class FeatureFile:
    """One ``.npy`` file and the streams in it."""

    path: Path
    streams: tuple[StreamKind, ...]

    @property
    def sidecar(self) -> Path:
        """The file beside it that says what it is."""
        return self.path.with_suffix(".json")


def files_for(out: Path, stem: str, preset: FeaturePreset, streams: tuple[StreamKind, ...]) -> list[FeatureFile]:
    """The files of a video.

    Args:
        out: the folder.
        stem: relative path of the video without its ending; see
            :func:`quovadis.datasets.video_inputs.unique_stems`.
        preset: says how they are named.
        streams: RGB first.

    Raises:
        InvalidInputError: the preset keeps one stream only.

    >>> from quovadis.inference.feature_presets import FEATURE_PRESETS
    >>> [f.path.as_posix() for f in files_for(Path("o"), "a/v", FEATURE_PRESETS["quovadis"], ("rgb", "flow"))]
    ['o/a/v_rgb.npy', 'o/a/v_flow.npy']
    """
    if not preset.joined:
        return [FeatureFile(out / preset.file.format(video=stem, stream=s), (s,)) for s in streams]
    if preset.shape == "T11D" and len(streams) > 1:
        raise InvalidInputError(f"preset {preset.name!r} keeps one stream a folder: choose it with --streams")
    return [FeatureFile(out / preset.file.format(video=stem), streams)]


def settings_of(extractor: FeatureExtractor, streams: tuple[StreamKind, ...]) -> dict[str, Any]:
    """Everything that the numbers of a file depend on, besides the video: what its sidecar is compared by."""
    spec, preset = extractor.spec, extractor.preset
    settings: dict[str, Any] = {
        "streams": list(streams),
        "networks": {k: extractor.models[k].spec.name for k in streams},
        "weights_sha256": {k: extractor.weights_sha256[k] for k in streams},
        **preset.to_dict(),
        "fps": preset.rate(spec) or "file",
        "window": extractor.window or "whole",
        "stride": extractor.stride if extractor.window else extractor.axis.stride,
        "short_side_px": spec.short_side_px,
        "size_px": spec.size_px,
    }
    if "flow" in streams:
        flow = preset_for(extractor.flow.method).to_dict()
        settings["flow"] = {key: flow[key] for key in ("method", "parameters", "gray", "clip_px", "num_levels")}
    return settings


class FeatureWriter:
    """Write the features of a video as they are computed; nothing appears before the end.

    Args:
        file: where to write.
        preset: the layout.
        settings: see :func:`settings_of`.
        video: the video's path as it was asked for.

    Raises:
        StorageError: it cannot be written. TooFewFramesError: at the end, if there is not one row.
    """

    def __init__(self, file: FeatureFile, preset: FeaturePreset, settings: dict[str, Any], video: Path):
        self.file = file
        self.num_rows = 0
        self._preset = preset
        self._settings = settings
        self._video = video
        self._row_shape: tuple[int, ...] = ()
        self._times: dict[str, list[float]] = {"start_seconds": [], "center_seconds": [], "stop_seconds": []}
        self._partial = PartialFile(file.path)
        try:
            self._open = self._partial.path.open("wb")
            self._open.write(bytes(_HEADER_BYTES))
        except OSError as error:
            raise StorageError(f"cannot write {file.path}: {error.strerror or error}") from error

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array so far."""
        return _shape(self._preset, self.num_rows, self._row_shape)

    def write(self, rows: FeatureRows) -> None:
        """Append rows."""
        values = torch.cat([rows.features[kind] for kind in self.file.streams], dim=2).numpy()
        self._row_shape = values.shape[1:]
        try:
            self._open.write(np.ascontiguousarray(values, dtype="<f4").data)
        except OSError as error:
            raise StorageError(f"cannot write {self.file.path}: {error.strerror or error}") from error
        self.num_rows += len(rows)
        for name, times in self._times.items():
            times += getattr(rows, name)

    def finish(self, **facts: Any) -> None:
        """Put the file in its place, behind its sidecar.

        Args:
            facts: more for the sidecar.
        """
        if not self.num_rows:
            raise TooFewFramesError(f"{self._video} gives no features")
        sidecar = {
            "format": FORMAT_VERSION,
            "quovadis": __version__,
            "preset": self._preset.name,
            "changed": self._preset.changes(),
            "source": self._preset.source,
            "differs": self._preset.differs,
            "video": str(self._video),
            **facts,
            "shape": list(self.shape),
            "num_rows": self.num_rows,
            "settings": self._settings,
            **{name: [round(t, 6) for t in self._times[name]] for name in ("start_seconds", "center_seconds")},
        }
        try:
            self._open.seek(0)
            self._open.write(_npy_header(self.shape, columns_first=self._preset.shape == "DT"))
            self._open.close()
            # The sidecar first: without its array it counts for nothing, an array without it looks like a stranger's.
            self.file.path.unlink(missing_ok=True)
            write_atomically(self.file.sidecar, json.dumps(sidecar).encode())
            self._partial.commit()
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"cannot write {self.file.path}: {error.strerror or error}") from error

    def write_times(self, fps: float) -> None:
        """Also the two small arrays that video_features has beside its features."""
        stem = self.file.path.name.removesuffix(f"_{self.file.streams[0]}.npy")
        for name, values in (
            ("fps", np.array(fps)),
            ("timestamps_ms", np.array(self._times["stop_seconds"]) * 1000),
        ):
            with atomic_path(self.file.path.with_name(f"{stem}_{name}.npy")) as partial:
                np.save(partial, values)

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._open.close()
        self._partial.discard()


@dataclass(frozen=True)
class OutputState:
    """What is at the place of a file already."""

    done: bool = False
    """Just what would be made."""
    refusal: str = ""
    """Why it must not be overwritten; empty when nothing is there."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The sidecar, where it is done."""


def standing(file: FeatureFile, settings: dict[str, Any], fingerprint: VideoFingerprint) -> OutputState:
    """Whether a file is there, and of the same settings and video."""
    if not file.path.exists():
        return OutputState()
    try:
        sidecar = json.loads(file.sidecar.read_text())
        theirs, video = sidecar["settings"], sidecar["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return OutputState(
            refusal=f"{file.path} exists without a {file.sidecar.name} that says what it is: move it away, write "
            "elsewhere, or use --overwrite"
        )
    if video != vars(fingerprint):
        return OutputState(
            refusal=f"{file.path} has the features of another video: write elsewhere, or use --overwrite"
        )
    differences = [
        f"{key} is {theirs.get(key)!r}, now {settings.get(key)!r}"
        for key in sorted({*theirs, *settings})
        if theirs.get(key) != settings.get(key)
    ]
    if differences:
        return OutputState(
            refusal=f"{file.path} exists from other settings ({'; '.join(differences)}): write elsewhere, or use "
            "--overwrite"
        )
    return OutputState(done=True, facts=sidecar)


def _shape(preset: FeaturePreset, num_rows: int, row_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of the array, from rows of (crops, D)."""
    crops, dim = row_shape or (1, 0)
    return {
        "TD": (num_rows, dim) if crops == 1 else (num_rows, crops, dim),
        "T11D": (num_rows, 1, 1, dim),
        "TCD": (num_rows, crops, dim),
        "DT": (dim, num_rows),
    }[preset.shape]


def _npy_header(shape: tuple[int, ...], *, columns_first: bool) -> bytes:
    """The header of an ``.npy`` file of float32, of a fixed size, so that it can be written last.

    An array that is stored column by column (Fortran's order) is one whose columns were written one after the other.
    """
    words = f"{{'descr': '<f4', 'fortran_order': {columns_first}, 'shape': {shape!r}, }}"
    magic = b"\x93NUMPY\x01\x00"
    text = words.ljust(_HEADER_BYTES - len(magic) - 2 - 1) + "\n"
    return magic + len(text).to_bytes(2, "little") + text.encode("latin1")
