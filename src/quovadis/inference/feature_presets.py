"""How features are cut and kept: our way, and the layouts that the field's tools write and read, as data.

A preset fixes rate, windows, crops and files. It reproduces the *layout* of a tool, so that its readers work and rows
stand for the same frames; the numbers are this package's own, and ``differs`` says in what the tool's are others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.models.spec import ModelSpec, StreamKind

Rate = float | Literal["network", "file"]
WHOLE = 0
"""As a window: the whole video, convolutionally."""


@dataclass(frozen=True)
class FeaturePreset:
    """Everything about features but the networks."""

    name: str
    source: str
    """Where the convention is written down."""
    differs: str = ""
    """In what the tool's own features are made otherwise, as far as it is known."""
    fps: Rate = "network"
    """Frames a second; ``network`` is what the model is made for (25), ``file`` takes the frames as they are."""
    window: int | None = None
    """Frames of a window; None is the length of a training clip, :data:`WHOLE` the whole video convolutionally."""
    stride: int | None = None
    """Frames from one window to the next; None lets them touch."""
    padding: Literal["none", "edge"] = "none"
    """``none``: only windows that lie inside. ``edge``: one centered on each frame, the first and last frames repeated
    beyond the ends."""
    short: Literal["loop", "error"] = "loop"
    """What becomes of a video that is shorter than one window: looped to one, as in the paper, or refused."""
    crop: Literal["center", "ten"] = "center"
    """The middle square; or the corners and the middle, and the same of the mirrored picture."""
    aspect: float | None = None
    """Width by height that frames are stretched to; None keeps their own."""
    one_more_frame: bool = False
    """A window needs a frame behind it, so rows are counted on one frame less: the tool computes flow for both
    streams."""
    streams: tuple[StreamKind, ...] = ("rgb", "flow")
    """Taken unless asked otherwise, as far as there are weights for them."""
    file: str = "{video}_{stream}.npy"
    """Name of the file; without ``{stream}`` all streams lie in one, side by side, RGB first."""
    shape: Literal["TD", "T11D", "TCD", "DT"] = "TD"
    """Axes: time, features, crops, ones."""
    times: bool = False
    """Also write ``{video}_fps.npy`` and ``{video}_timestamps_ms.npy``."""

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 0:
            raise InvalidInputError(f"a window has at least one frame; got {self.window}")
        if self.stride is not None and self.stride < 1:
            raise InvalidInputError(f"the stride must be at least one frame; got {self.stride}")
        if self.fps not in ("network", "file") and not (isinstance(self.fps, int | float) and self.fps > 0):
            raise InvalidInputError(f"fps must be above 0, 'network' or 'file'; got {self.fps!r}")
        if self.padding == "edge" and self.window == WHOLE:
            raise InvalidInputError("padding 'edge' is for windows; the whole video has the network's own padding")
        if self.crop == "ten" and self.shape in ("T11D", "DT"):
            raise InvalidInputError(f"layout {self.shape} of preset {self.name!r} has no axis for ten crops")
        if self.window == WHOLE and self.stride is not None:
            raise InvalidInputError("the whole video has the stride of the network; leave the stride out")

    @property
    def joined(self) -> bool:
        """All streams in one file."""
        return "{stream}" not in self.file

    def window_frames(self, spec: ModelSpec) -> int:
        """Frames of a window for a model; :data:`WHOLE` for the whole video."""
        return spec.streams[0].num_frames if self.window is None else self.window

    def stride_frames(self, spec: ModelSpec) -> int:
        """Frames from one window to the next."""
        return self.stride or max(self.window_frames(spec), 1)

    def rate(self, spec: ModelSpec) -> float | None:
        """Frames a second for a model; None for those of the file."""
        if self.fps == "file":
            return None
        return spec.fps / spec.streams[0].frame_stride if self.fps == "network" else float(self.fps)

    def size(self, spec: ModelSpec) -> tuple[int, int] | None:
        """Height and width that frames are stretched to; None where only the short side is fixed."""
        if self.aspect is None:
            return None
        short = spec.short_side_px
        return (short, round(short * self.aspect)) if self.aspect >= 1 else (round(short / self.aspect), short)

    def but(self, **changes: Any) -> FeaturePreset:
        """The same with other values; None keeps what it is.

        >>> FEATURE_PRESETS["ms-tcn"].but(window=None, stride=4).stride
        4
        """
        return replace(self, **{key: value for key, value in changes.items() if value is not None})

    def whole(self) -> FeaturePreset:
        """The same for the whole video, convolutionally."""
        return replace(self, window=WHOLE, stride=None, padding="none", one_more_frame=False)

    def changes(self) -> list[str]:
        """The fields in which this is another than the preset of its name."""
        named = FEATURE_PRESETS.get(self.name, self)
        return [key for key, value in asdict(self).items() if value != getattr(named, key)]

    def to_dict(self) -> dict[str, Any]:
        """What changes the numbers or the file, as plain values."""
        values = asdict(self)
        for words in ("name", "source", "differs", "streams"):
            del values[words]
        return values


FEATURE_PRESETS: dict[str, FeaturePreset] = {
    p.name: p
    for p in (
        FeaturePreset(
            "quovadis",
            "ours: 25 fps, short side 256, center crop, windows of 64 frames (a training clip of the paper) that touch",
        ),
        FeaturePreset(
            "video-features",
            "v-iashin/video_features, configs/i3d.yml and models/i3d/extract_i3d.py: stacks of 64 frames, step 64, at "
            "the frame rate of the file; a stack needs a frame behind it; the time written for a stack is that of this "
            "frame; an unfinished stack is left out",
            differs="it resizes with PIL's antialiasing, estimates flow with RAFT, and a file shorter than a stack has "
            "no rows",
            fps="file",
            window=64,
            stride=64,
            one_more_frame=True,
            times=True,
        ),
        FeaturePreset(
            "pytorch-i3d",
            "piergiaj/pytorch-i3d, extract_features.py: the whole video convolutionally, one file of (T, 1, 1, 1024) a "
            "video, one stream at a time",
            differs="it reads JPEG frames (of Charades, 24 fps) at their own size where they have 226 pixels, and cuts "
            "long videos in pieces of 1,600 frames after which features are repeated or shifted",
            fps="file",
            window=WHOLE,
            streams=("rgb",),
            file="{video}.npy",
            shape="T11D",
        ),
        FeaturePreset(
            "ms-tcn",
            "yabufarha/ms-tcn, batch_gen.py, main.py (2048 features by frames) and its issues 3, 16, 19, 34; extracted "
            "by ahsaniqbal/Kinetics-FeatureExtractor, extractor_lazy.py: for every frame of the file a window of 21 "
            "around it, averaged over its time steps; RGB and flow side by side",
            differs="the author speaks of zero padding at the ends (issue 34), the extractor's code (LazyLoader.cpp) "
            "repeats the first and last frame, and so does this preset; it computes flow before resizing, and does not "
            "quantize it",
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
            "of the file (about 30 fps), RGB and flow side by side; made, say its issues 5 and 60, with "
            "Finspire13/pytorch-i3d-feature-extraction: frames of 340x256",
            differs="which crop and which flow were used for THUMOS14 is not published (issues 60, 150); the center "
            "crop here is Finspire13's center_crop. Its ActivityNet features are 25 fps with stride 16",
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
            "frames, stride 16, frames of 340x256, upper left, upper right, middle, lower left, lower right, then the "
            "same of the mirrored picture",
            differs="RTFM's own features are of an I3D-ResNet-50 (2048 of them), resized by Lanczos",
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


def find_feature_preset(name: str) -> FeaturePreset:
    """A preset by name.

    Raises:
        UnknownNameError: no such preset.
    """
    if name not in FEATURE_PRESETS:
        raise UnknownNameError.among("feature preset", name, FEATURE_PRESETS)
    return FEATURE_PRESETS[name]
