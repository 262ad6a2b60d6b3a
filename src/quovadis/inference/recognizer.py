"""Recognize actions in videos: decode, transform, compute flow, run the models and add their logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.flow.source import FlowSource
from quovadis.inference.activation_maps import ActivationMaps
from quovadis.inference.fusion import require_finite, sum_logits
from quovadis.inference.prediction import Prediction, Window
from quovadis.inference.video_windows import read_windows, window_frames
from quovadis.models.inputs import clip_to_streams, cut_clip
from quovadis.models.optimization import for_inference
from quovadis.models.spec import Backend, ModelSpec, Precision
from quovadis.models.video_model import VideoModel
from quovadis.video.clip import Clip
from quovadis.video.resize import resize_frames
from quovadis.weights.default import default_weights
from quovadis.weights.load import find_networks, load_model
from quovadis.weights.verify import state_sha256


class Recognizer:
    """Recognize actions in videos with one or more models.

    Args:
        models: One model, or several whose logits are added. Two-stream I3D is an RGB model and a flow model.
        labels: Class names in the order of the logits.
        device: Where the models run. Defaults to a GPU if there is one.
        flow: Source of optical flow, for models that need it. By default, flow stored next to a video is used, or TV-L1
            flow is computed.
        precision: Precision of convolutions; see :func:`quovadis.optimize`.
        backend: Backend of the models; see :func:`quovadis.optimize`.

    Raises:
        InvalidInputError: If the models have different classes, frame rates or sizes.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
        >>> prediction = recognizer.predict(getfixture("clip_path"))
        >>> len(prediction.windows), prediction.label in ("run", "jump")
        (2, True)
    """

    def __init__(
        self,
        models: Sequence[VideoModel],
        labels: Sequence[str],
        *,
        device: str | torch.device | None = None,
        flow: FlowSource | None = None,
        precision: Precision = "float32",
        backend: Backend = "torch",
    ):
        if not models:
            raise InvalidInputError("a recognizer needs at least one model")
        first = models[0].spec
        for model in models:
            if model.num_classes != len(labels):
                raise InvalidInputError(
                    f"{model.spec.name} has {model.num_classes} classes, but there are {len(labels)} labels"
                )
            if _shared_input_settings(model.spec) != _shared_input_settings(first):
                raise InvalidInputError(f"{first.name} and {model.spec.name} need different frame rates or sizes")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.models = [for_inference(m, self.device, precision=precision, backend=backend) for m in models]
        self.labels = tuple(labels)
        self.networks: tuple[dict[str, str], ...] = ()
        """``weights``, ``model`` and ``sha256`` of each network, if they were loaded by :meth:`load`."""
        self.spec = first
        self.flow = flow or FlowSource()
        self.needs_flow = any(model.spec.needs_flow for model in models)

    @classmethod
    def load(
        cls,
        *weights: str | PathLike[str],
        device: str | torch.device | None = None,
        flow_method: str = "tvl1",
        flow_folder: str | PathLike[str] | None = None,
        precision: Precision = "float32",
        backend: Backend = "torch",
    ) -> Recognizer:
        """Load a recognizer from weights files, run folders or published names.

        Args:
            weights: One for each model. Defaults to the official Kinetics-400 RGB network, which is downloaded once.
            device: Where the models run. Defaults to a GPU if there is one.
            flow_method: Optical flow method, for models that need flow; see :func:`quovadis.estimate_flow`.
            flow_folder: Folder written by ``quovadis flow``. By default, flow is looked for next to each video.
            precision: Precision of convolutions; see :func:`quovadis.optimize`.
            backend: Backend of the models; see :func:`quovadis.optimize`.

        Raises:
            WeightsError: If weights cannot be loaded.
            InvalidInputError: If the models have different classes, frame rates or sizes.

        Example:
            >>> from quovadis.models.zoo import build_model
            >>> from quovadis.weights.files import save_weights
            >>> from quovadis.weights.info import WeightsInfo
            >>> state = build_model("i3d_tiny", num_classes=2).state_dict()
            >>> info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("run", "jump"))
            >>> path = save_weights(getfixture("tmp_path") / "rgb.safetensors", state, info)
            >>> Recognizer.load(path).labels
            ('run', 'jump')
        """
        sources = [network for w in weights or (default_weights(),) for network in find_networks(w)]
        models = [load_model(w) for w in sources]
        label_sets = {model.labels for model in models}
        if len(label_sets) > 1:
            raise InvalidInputError("these weights have different classes; streams must be trained on the same classes")
        flow = FlowSource(flow_method, None if flow_folder is None else Path(flow_folder))
        networks = tuple(
            {"weights": fspath(w), "model": describe_model(m), "sha256": state_sha256(m.state_dict())}
            for w, m in zip(sources, models, strict=True)
        )
        recognizer = cls(models, models[0].labels, device=device, flow=flow, precision=precision, backend=backend)
        recognizer.networks = networks
        return recognizer

    def describe(self) -> str:
        """Describe the models by name and stream.

        >>> from quovadis.models.zoo import build_model
        >>> Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"]).describe()
        'i3d_tiny (rgb)'
        """
        names = {model.spec.name for model in self.models}
        if len(names) > 1:
            return " + ".join(self.describe_models())
        return f"{names.pop()} ({' + '.join(', '.join(s.kind for s in m.spec.streams) for m in self.models)})"

    def describe_models(self) -> list[str]:
        """Describe each model by name and stream."""
        return [describe_model(model) for model in self.models]

    @property
    def has_class_maps(self) -> bool:
        """Whether all models have class activation maps, which :meth:`explain` needs."""
        return all(model.has_class_maps for model in self.models)

    def first_filters(self) -> dict[str, Tensor]:
        """Weights of the first convolution of each stream, (out, in, T, H, W), as in figure 4 of the paper."""
        return {
            f"{model.spec.name} ({kind})": weight.cpu()
            for model in self.models
            for kind, weight in model.first_filters().items()
        }

    def read_transform(self) -> partial[Tensor]:
        """Transform for a reader that resizes the short side of each frame to the size that the models need."""
        return partial(resize_frames, short_side_px=self.spec.short_side_px)

    def logits(self, clip: Clip) -> Tensor:
        """Compute the logits of one clip, added over the models.

        The center of the clip is cropped. For models with a fixed clip length (``ModelSpec.test_clip_frames``), the
        clip is cut into clips of that length whose logits are averaged.

        Args:
            clip: Every ``spec.clip_stride``-th frame of a video at ``spec.fps``, resized by :meth:`read_transform`,
                with flow if a model needs it.

        Returns:
            float32 (classes,), on the CPU.

        Raises:
            InvalidInputError: If a model returns NaN or infinity.
        """
        logits = sum_logits(self.stream_logits(clip))
        require_finite(logits, self.describe(), clip.source)
        return logits

    @torch.inference_mode()
    def stream_logits(self, clip: Clip) -> list[Tensor]:
        """Compute the logits of one clip for each model; see :meth:`logits`."""
        all_logits = []
        for model in self.models:
            spec = model.spec
            clips = cut_clip(transforms.center_crop(clip, spec.size_px), spec)
            batch_size = max(spec.test_frames // (spec.test_clip_frames or spec.test_frames), 1)
            total = torch.zeros(len(self.labels), device=self.device)
            for start in range(0, len(clips), batch_size):
                streams = [clip_to_streams(c, spec) for c in clips[start : start + batch_size]]
                inputs = [transforms.to_model(torch.stack(s).to(self.device)) for s in zip(*streams, strict=True)]
                total += model(*inputs).float().sum(0)
            all_logits.append((total / len(clips)).cpu())
            require_finite(all_logits[-1], describe_model(model), clip.source)
        return all_logits

    def predict(
        self,
        path: str | PathLike[str],
        *,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        num_threads: int = 0,
        on_window: Callable[[Window], None] | None = None,
    ) -> Prediction:
        """Recognize the action in a video of any length, at constant memory.

        The video is read at 25 fps in windows, and the logits of the windows are averaged. A video shorter than a
        training clip is looped, as in the paper. For a damaged file, the part that decodes is used, with a note.

        Args:
            path: Video file.
            window_seconds: Length of a window. Defaults to the test footprint of the model (10 s for I3D).
            stride_seconds: Time from one window to the next. Defaults to the length of a window, and then a rest of the
                video shorter than 5 % of a window is not used: clips of 10 s are often some frames longer.
            num_threads: Number of decoding threads; 0 for the default of FFmpeg.
            on_window: Called with each window after it was scored.

        Raises:
            VideoError: If nothing of the file can be read.
            InvalidInputError: If the window or stride is too short, or logits are NaN or infinite.

        Example:
            >>> from quovadis.models.zoo import build_model
            >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
            >>> prediction = recognizer.predict(getfixture("clip_path"), window_seconds=0.64, stride_seconds=0.32)
            >>> [(round(w.start_seconds, 2), round(w.stop_seconds, 2)) for w in prediction.windows]
            [(0.0, 0.64), (0.32, 0.96), (0.56, 1.2)]
        """
        window, stride = window_frames(self.spec, window_seconds, stride_seconds, default_window=self.spec.test_frames)
        notes: list[str] = []
        scored = []
        min_rest = max(window // 20, 1) if stride_seconds is None else 1
        for item in read_windows(
            path, self.spec, self._flow, window, stride, notes, min_rest=min_rest, num_threads=num_threads
        ):
            scored.append(Window(item.start_seconds, item.stop_seconds, self.logits(item.clip)))
            if on_window is not None:
                on_window(scored[-1])
        return self._prediction(path, scored, notes, window, stride)

    @torch.inference_mode()
    def explain(
        self,
        path: str | PathLike[str],
        *,
        labels: Sequence[str] = (),
        num_labels: int = 1,
        window_seconds: float | None = None,
        on_window: Callable[[Window], None] | None = None,
    ) -> ActivationMaps:
        """Compute where and when the network finds evidence for a class (class activation maps).

        The classifier of I3D is linear over averaged features, so the maps are exact: pooled, they are the logits.
        Memory grows with the video, by 15 MB per minute for 400 classes unless ``labels`` are given.

        Args:
            path: Video file.
            labels: Classes to map. Defaults to the most probable ones.
            num_labels: Number of most probable classes to map if ``labels`` is empty.
            window_seconds: Length of a window, as for :meth:`predict`.
            on_window: Called with each window after it was scored.

        Raises:
            VideoError: If the file cannot be read.
            UnknownNameError: If a label is not a class of the model.
            InvalidInputError: If a model has no linear classifier over a grid, such as conv3d.

        Example:
            >>> from quovadis.models.zoo import build_model
            >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
            >>> maps = recognizer.explain(getfixture("clip_path"), labels=["jump"])
            >>> maps.maps.shape, maps.labels
            (torch.Size([1, 4, 2, 2]), ('jump',))
        """
        for label in labels:
            if label not in self.labels:
                raise UnknownNameError.among("class", label, self.labels)
        if num_labels < 1:
            raise InvalidInputError(f"num_labels must be at least 1; got {num_labels}")
        rows = [self.labels.index(label) for label in labels]
        spec = self.spec
        window, stride = window_frames(spec, window_seconds, None, default_window=spec.test_frames)
        notes: list[str] = []
        scored: list[Window] = []
        kept: list[Tensor] = []
        centers: list[Tensor] = []
        min_rest = max(window // 20, 1)  # as in predict
        for item in read_windows(path, spec, self._flow, window, stride, notes, min_rest=min_rest):
            maps, logits = self._class_maps(item.clip)
            step_seconds = len(item.clip) * spec.clip_stride / spec.fps / maps.shape[1]
            center = item.start_seconds + (torch.arange(maps.shape[1], dtype=torch.float64) + 0.5) * step_seconds
            # The last window overlaps the one before it, and a short video is looped: keep every time step once.
            new = (center < item.stop_seconds) & (center > scored[-1].stop_seconds if scored else True)
            new[0] |= not scored
            kept.append((maps[rows] if rows else maps)[:, new])
            centers.append(center[new])
            scored.append(Window(item.start_seconds, item.stop_seconds, logits))
            if on_window is not None:
                on_window(scored[-1])
        prediction = self._prediction(path, scored, notes, window, stride)
        all_maps = torch.cat(kept, 1)
        if not rows:
            best = prediction.logits.topk(min(num_labels, len(self.labels))).indices
            all_maps, labels = all_maps[best], [self.labels[i] for i in best.tolist()]
        return ActivationMaps(prediction, tuple(labels), all_maps, torch.cat(centers), spec.short_side_px, spec.size_px)

    @property
    def _flow(self) -> FlowSource | None:
        return self.flow if self.needs_flow else None

    def _prediction(
        self, path: str | PathLike[str], scored: Sequence[Window], notes: Sequence[str], window: int, stride: int
    ) -> Prediction:
        """Average the logits of windows whose length and stride are in frames."""
        mean = torch.stack([w.logits for w in scored]).mean(0)
        require_finite(mean, self.describe(), str(path))
        fps = self.spec.fps
        return Prediction(str(path), self.labels, mean, tuple(scored), tuple(notes), window / fps, stride / fps)

    def _class_maps(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Compute maps (classes, T', h, w) and logits (classes,) of one clip, added over the models, on the CPU."""
        clip = transforms.center_crop(clip, self.spec.size_px)
        all_maps, all_logits = [], []
        for model in self.models:
            streams = clip_to_streams(clip, model.spec)
            maps = model.class_maps(*(transforms.to_model(s[None].to(self.device)) for s in streams))
            all_logits.append(model.pool_class_maps(maps)[0].float().cpu())
            all_maps.append(maps[0].float().cpu())
        return torch.stack(all_maps).sum(0), sum_logits(all_logits)


def describe_model(model: VideoModel) -> str:
    """Describe a model by name and streams, such as ``i3d (rgb)``."""
    return f"{model.spec.name} ({', '.join(s.kind for s in model.spec.streams)})"


def _shared_input_settings(spec: ModelSpec) -> tuple[float, int, int, int]:
    """Input settings that models must share to be fused."""
    return spec.fps, spec.clip_stride, spec.short_side_px, spec.size_px
