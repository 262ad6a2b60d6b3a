"""Write features to ``.npy`` files, each with a ``.json`` sidecar that records how it was made."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from quovadis.errors import InvalidInputError, TooFewFramesError
from quovadis.flow.codec import preset_for
from quovadis.flow.flow_files import VideoFingerprint
from quovadis.inference.feature_presets import FeaturePreset
from quovadis.inference.features import FeatureExtractor, FeatureRows
from quovadis.models.spec import StreamKind
from quovadis.runtime.atomic import PartialFile, atomic_path, storage_errors, write_atomically
from quovadis.version import __version__

FORMAT_VERSION = 1
_HEADER_BYTES = 128


@dataclass(frozen=True)
class FeatureFile:
    """Path of one ``.npy`` file and the streams it contains."""

    path: Path
    streams: tuple[StreamKind, ...]

    @property
    def sidecar(self) -> Path:
        """The ``.json`` file next to it."""
        return self.path.with_suffix(".json")


def files_for(out: Path, stem: str, preset: FeaturePreset, streams: tuple[StreamKind, ...]) -> list[FeatureFile]:
    """Name the feature files of a video.

    Args:
        out: Output folder.
        stem: Relative path of the video without its suffix; see :func:`quovadis.datasets.video_inputs.unique_stems`.
        preset: Determines the file names.
        streams: Streams to write, RGB first.

    Raises:
        InvalidInputError: If the preset stores only one stream.

    Example:
        >>> from quovadis.inference.feature_presets import FEATURE_PRESETS
        >>> [f.path.as_posix() for f in files_for(Path("o"), "a/v", FEATURE_PRESETS["quovadis"], ("rgb", "flow"))]
        ['o/a/v_rgb.npy', 'o/a/v_flow.npy']
    """
    if not preset.joined:
        return [FeatureFile(out / preset.file.format(video=stem, stream=s), (s,)) for s in streams]
    if preset.shape == "T11D" and len(streams) > 1:
        raise InvalidInputError(f"preset {preset.name!r} stores one stream per folder: choose it with --streams")
    return [FeatureFile(out / preset.file.format(video=stem), streams)]


def settings_of(extractor: FeatureExtractor, streams: tuple[StreamKind, ...]) -> dict[str, Any]:
    """Collect all settings that the content of a feature file depends on, apart from the video."""
    spec, preset = extractor.spec, extractor.preset
    settings: dict[str, Any] = {
        "streams": list(streams),
        "networks": {k: extractor.models[k].spec.name for k in streams},
        "weights_sha256": {k: extractor.weights_sha256[k] for k in streams},
        **preset.to_dict(),
        "fps": preset.rate(spec) or "file",
        "window": extractor.window or "whole",
        "stride": extractor.stride,
        "short_side_px": spec.short_side_px,
        "size_px": spec.size_px,
    }
    if "flow" in streams:
        flow = preset_for(extractor.flow.method).to_dict()
        settings["flow"] = {key: flow[key] for key in ("method", "parameters", "gray", "clip_px", "num_levels")}
    return settings


class FeatureWriter:
    """Write the features of a video row by row; the file appears when :meth:`finish` is called.

    Args:
        file: Target.
        preset: Layout of the array.
        settings: Result of :func:`settings_of`.
        video: Path of the video, for the sidecar.

    Raises:
        StorageError: If the file cannot be written.
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
        with storage_errors(file.path):
            self._open = self._partial.path.open("wb")
            self._open.write(bytes(_HEADER_BYTES))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array written so far."""
        crops, dim = self._row_shape or (1, 0)
        return {
            "TD": (self.num_rows, dim) if crops == 1 else (self.num_rows, crops, dim),
            "T11D": (self.num_rows, 1, 1, dim),
            "TCD": (self.num_rows, crops, dim),
            "DT": (dim, self.num_rows),
        }[self._preset.shape]

    def write(self, rows: FeatureRows) -> None:
        """Append rows."""
        values = torch.cat([rows.features[kind] for kind in self.file.streams], dim=2).numpy()
        self._row_shape = values.shape[1:]
        with storage_errors(self.file.path):
            self._open.write(np.ascontiguousarray(values, dtype="<f4").data)
        self.num_rows += len(rows)
        for name, times in self._times.items():
            times += getattr(rows, name)

    def finish(self, **metadata: Any) -> None:
        """Write the sidecar and move the file to its path.

        Args:
            metadata: Additional fields of the sidecar.

        Raises:
            TooFewFramesError: If no row was written.
        """
        if not self.num_rows:
            raise TooFewFramesError(f"{self._video} is too short for features")
        sidecar = {
            "format": FORMAT_VERSION,
            "quovadis": __version__,
            "preset": self._preset.name,
            "changed": self._preset.changes(),
            "source": self._preset.source,
            "differs": self._preset.differs,
            "video": str(self._video),
            **metadata,
            "shape": list(self.shape),
            "num_rows": self.num_rows,
            "settings": self._settings,
            **{name: [round(t, 6) for t in self._times[name]] for name in ("start_seconds", "center_seconds")},
        }
        with storage_errors(self.file.path):
            self._open.seek(0)
            self._open.write(_npy_header(self.shape, columns_first=self._preset.shape == "DT"))
            self._open.close()
            # The sidecar first: it is ignored without its array, but an array without sidecar is never overwritten.
            self.file.path.unlink(missing_ok=True)
            write_atomically(self.file.sidecar, json.dumps(sidecar).encode())
            self._partial.commit()

    def write_times(self, fps: float) -> None:
        """Write the frame rate and the end times of the rows, as video_features does."""
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
    """State of an output file before extraction."""

    done: bool = False
    """Whether the file exists with the same settings, for the same video."""
    refusal: str = ""
    """Why an existing file must not be overwritten."""
    sidecar: dict[str, Any] = field(default_factory=dict)
    """The sidecar, if the file is done."""


def output_state(file: FeatureFile, settings: dict[str, Any], fingerprint: VideoFingerprint) -> OutputState:
    """Compare an output file, if it exists, with the settings and the video."""
    if not file.path.exists():
        return OutputState()
    try:
        sidecar = json.loads(file.sidecar.read_text())
        existing, video = sidecar["settings"], sidecar["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return OutputState(
            refusal=f"{file.path} exists without a valid {file.sidecar.name}: move it away, use another --out, or use "
            "--overwrite"
        )
    if video != vars(fingerprint):
        return OutputState(refusal=f"{file.path} has the features of another video: use another --out or --overwrite")
    differences = [
        f"{key} is {existing.get(key)!r}, now {settings.get(key)!r}"
        for key in sorted({*existing, *settings})
        if existing.get(key) != settings.get(key)
    ]
    if differences:
        return OutputState(
            refusal=f"{file.path} exists with other settings ({'; '.join(differences)}): use another --out or "
            "--overwrite"
        )
    return OutputState(done=True, sidecar=sidecar)


def _npy_header(shape: tuple[int, ...], *, columns_first: bool) -> bytes:
    """Header of a float32 ``.npy`` file, of fixed size so that it can be written after the data.

    With ``columns_first`` (Fortran order), the data are the columns of the array one after the other.
    """
    header = f"{{'descr': '<f4', 'fortran_order': {columns_first}, 'shape': {shape!r}, }}"
    magic = b"\x93NUMPY\x01\x00"
    text = header.ljust(_HEADER_BYTES - len(magic) - 2 - 1) + "\n"
    return magic + len(text).to_bytes(2, "little") + text.encode("latin1")
