"""Feature presets as data: frame rates, windows, crops and file layouts of quovadis and of common tools.

A preset reproduces the layout of a tool, so that its readers work and rows stand for the same frames. The features are
computed by quovadis, and ``differs`` lists how those of the tool differ.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.models.spec import ModelSpec, StreamKind

Rate = float | Literal["network", "file"]
WHOLE = 0
"""Value of ``window`` for features of the whole video instead of windows."""


@dataclass(frozen=True)
class FeaturePreset:
    """Settings of feature extraction, apart from the networks.

    Raises:
        InvalidInputError: If a value is out of range or two settings exclude each other.

    Example:
        >>> preset = FEATURE_PRESETS["ms-tcn"].with_options(stride=4)
        >>> preset.window, preset.stride, preset.changes()
        (21, 4, ['stride'])
    """

    name: str
    source: str
    """Where the convention is documented."""
    differs: str = ""
    """How the features of the tool itself differ."""
    fps: Rate = "network"
    """Frame rate; ``network`` for that of the model (25), ``file`` for the frames of the file."""
    window: int | None = None
    """Number of frames of a window; None for that of a training clip, :data:`WHOLE` for the whole video."""
    stride: int | None = None
    """Number of frames from one window to the next; None for the length of the window."""
    padding: Literal["none", "edge"] = "none"
    """``none``: only windows inside the video. ``edge``: windows centered on each ``stride``-th frame, with the first
    and last frames repeated beyond the ends."""
    short: Literal["loop", "error"] = "loop"
    """What to do with videos shorter than one window: loop them, as in the paper, or raise an error."""
    crop: Literal["center", "ten"] = "center"
    """``center``: the center square. ``ten``: the corners and the center, and the same mirrored."""
    aspect: float | None = None
    """Stretch frames to this ratio of width to height; None to keep theirs."""
    one_more_frame: bool = False
    """Whether a window needs one more frame after it, as for tools that compute flow in every window."""
    streams: tuple[StreamKind, ...] = ("rgb", "flow")
    """Default streams; those without a network are skipped."""
    file: str = "{video}_{stream}.npy"
    """File name. Without ``{stream}``, the features of all streams are concatenated in one file, RGB first."""
    shape: Literal["TD", "T11D", "TCD", "DT"] = "TD"
    """Axes of the array: time (T), features (D), crops (C), or 1."""
    times: bool = False
    """Whether to also write ``{video}_fps.npy`` and ``{video}_timestamps_ms.npy``."""

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 0:
            raise InvalidInputError(f"window must be at least 1 frame; got {self.window}")
        if self.stride is not None and self.stride < 1:
            raise InvalidInputError(f"stride must be at least 1 frame; got {self.stride}")
        if self.fps not in ("network", "file") and not (isinstance(self.fps, int | float) and self.fps > 0):
            raise InvalidInputError(f"fps must be above 0, 'network' or 'file'; got {self.fps!r}")
        if self.padding == "edge" and self.window == WHOLE:
            raise InvalidInputError("padding 'edge' needs windows; the whole video has the network's own padding")
        if self.crop == "ten" and self.shape in ("T11D", "DT"):
            raise InvalidInputError(f"layout {self.shape} of preset {self.name!r} has no axis for ten crops")
        if self.window == WHOLE and self.stride is not None:
            raise InvalidInputError("features of the whole video have the stride of the network; leave out stride")

    @property
    def joined(self) -> bool:
        """Whether all streams are in one file."""
        return "{stream}" not in self.file

    def window_frames(self, spec: ModelSpec) -> int:
        """Number of frames of a window for a model; :data:`WHOLE` for the whole video."""
        return spec.streams[0].num_frames if self.window is None else self.window

    def stride_frames(self, spec: ModelSpec) -> int:
        """Number of frames from one window to the next for a model."""
        return self.stride or max(self.window_frames(spec), 1)

    def rate(self, spec: ModelSpec) -> float | None:
        """Frame rate for a model; None for the frames of the file."""
        if self.fps == "file":
            return None
        return spec.fps / spec.streams[0].frame_stride if self.fps == "network" else float(self.fps)

    def size(self, spec: ModelSpec) -> tuple[int, int] | None:
        """Height and width that frames are stretched to; None to resize only the short side."""
        if self.aspect is None:
            return None
        short = spec.short_side_px
        return (short, round(short * self.aspect)) if self.aspect >= 1 else (round(short / self.aspect), short)

    def with_options(self, **changes: Any) -> FeaturePreset:
        """Copy with other values; None keeps a value.

        >>> FEATURE_PRESETS["ms-tcn"].with_options(window=None, stride=4).stride
        4
        """
        return replace(self, **{key: value for key, value in changes.items() if value is not None})

    def whole(self) -> FeaturePreset:
        """Copy for features of the whole video instead of windows."""
        return replace(self, window=WHOLE, stride=None, padding="none", one_more_frame=False)

    def changes(self) -> list[str]:
        """Names of the fields that differ from the named preset."""
        named = FEATURE_PRESETS.get(self.name, self)
        return [key for key, value in asdict(self).items() if value != getattr(named, key)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values of the fields that affect the features or the file."""
        values = asdict(self)
        for key in ("name", "source", "differs", "streams"):
            del values[key]
        return values


FEATURE_PRESETS: dict[str, FeaturePreset] = {
    p.name: p
    for p in (
        FeaturePreset(
            "quovadis",
            "25 fps, short side 256, center crop, non-overlapping windows of 64 frames (a training clip of the paper)",
        ),
        FeaturePreset(
            "video-features",
            "v-iashin/video_features, configs/i3d.yml and models/i3d/extract_i3d.py: stacks of 64 frames, step 64, at "
            "the frame rate of the file; a stack needs one more frame after it, whose time is written for the stack; "
            "an incomplete stack is dropped",
            differs="it resizes with PIL's antialiasing, estimates flow with RAFT, has a batch norm epsilon of 1e-5 "
            "instead of 1e-3, and writes no rows for files shorter than a stack",
            fps="file",
            window=64,
            stride=64,
            one_more_frame=True,
            times=True,
        ),
        FeaturePreset(
            "pytorch-i3d",
            "piergiaj/pytorch-i3d, extract_features.py: the whole video convolutionally, one file of (T, 1, 1, 1024) "
            "per video, one stream at a time",
            differs="it reads JPEG frames (of Charades, 24 fps) at their own size if they have 226 pixels, and cuts "
            "long videos into chunks of 1,600 frames, after which features are repeated or shifted",
            fps="file",
            window=WHOLE,
            streams=("rgb",),
            file="{video}.npy",
            shape="T11D",
        ),
        FeaturePreset(
            "ms-tcn",
            "yabufarha/ms-tcn, batch_gen.py, main.py (2048 features by frames) and its issues 3, 16, 19, 34; extracted "
            "by ahsaniqbal/Kinetics-FeatureExtractor, extractor_lazy.py: a window of 21 frames around every frame of "
            "the file, averaged over its time steps; RGB and flow concatenated",
            differs="the author mentions zero padding at the ends (issue 34), but the extractor's code "
            "(LazyLoader.cpp) repeats the first and last frame, as this preset does; it computes flow before resizing "
            "and does not quantize it",
            fps="file",
            window=21,
            stride=1,
            padding="edge",
            file="{video}.npy",
            shape="DT",
        ),
        FeaturePreset(
            "actionformer",
            "happyharrycn/actionformer_release, README and configs/thumos_i3d.yaml: 16 frames, stride 4, at the rate "
            "of the file (about 30 fps), RGB and flow concatenated; according to its issues 5 and 60, extracted with "
            "Finspire13/pytorch-i3d-feature-extraction from frames of 340x256",
            differs="the crop and flow used for THUMOS14 are not published (issues 60, 150); the center crop here is "
            "Finspire13's center_crop. Its ActivityNet features are 25 fps with stride 16",
            fps="file",
            window=16,
            stride=4,
            aspect=340 / 256,
            file="{video}.npy",
        ),
        FeaturePreset(
            "ten-crop",
            "anomaly detection: tianyu0207/RTFM, dataset.py and list/ (files of windows by 10 crops by features, "
            "NAME_i3d.npy); extracted as by GowthamGottimukkala/I3D_Feature_Extraction_resnet, extract_features.py: 16 "
            "frames, stride 16, frames of 340x256, crops at the upper left, upper right, center, lower left and lower "
            "right, then the same mirrored",
            differs="RTFM's own features come from an I3D-ResNet-50 (2048 features), with frames resized by Lanczos",
            fps="file",
            window=16,
            stride=16,
            crop="ten",
            aspect=340 / 256,
            streams=("rgb",),
            file="{video}_i3d.npy",
            shape="TCD",
        ),
    )
}
"""The feature presets by name; the repository of each is in its ``source``."""


def find_feature_preset(name: str) -> FeaturePreset:
    """Look up a feature preset by name.

    Raises:
        UnknownNameError: If there is no such preset.

    Example:
        >>> find_feature_preset("actionformer").stride
        4
    """
    if name not in FEATURE_PRESETS:
        raise UnknownNameError.among("feature preset", name, FEATURE_PRESETS)
    return FEATURE_PRESETS[name]
