"""THE pipeline, for one video: video -> transforms -> flow -> models -> fuse.

A recognizer holds one model, or one model a stream, and the names of the classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from os import PathLike, fspath
from pathlib import Path

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.datasets.clip_dataset import clip_extent
from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.flow.source import FlowSource
from quovadis.inference.activation_maps import ActivationMaps
from quovadis.inference.fusion import require_finite, sum_logits
from quovadis.inference.prediction import Prediction, Window
from quovadis.models.inputs import clip_to_streams, cut_clip
from quovadis.models.optimize import Backend, Precision, for_inference
from quovadis.models.spec import ModelSpec
from quovadis.models.video_model import VideoModel
from quovadis.runtime.prefetch import prefetch
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.sampling import fit_length
from quovadis.weights.default import default_weights
from quovadis.weights.load import load_model
from quovadis.weights.verify import state_sha256


class Recognizer:
    """Names the action in videos.

    Args:
        models: one model, or several whose logits are added: two-stream I3D is an RGB and a flow model.
        labels: class names in the order of the logits.
        device: where the models run; by default a GPU if there is one.
        flow: where optical flow comes from, where a model wants it; by default a stored file beside the video, or else
            TV-L1 as it is needed.
        precision: of the models' convolutions; see :func:`quovadis.optimize`, through which every model goes.
        backend: what runs the models; likewise.

    Raises:
        InvalidInputError: models of different classes, frame rates or sizes.

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
                    f"{model.spec.name} has {model.num_classes} classes and there are {len(labels)} labels"
                )
            spec = model.spec
            if _shared_input_settings(spec) != _shared_input_settings(first):
                raise InvalidInputError(f"{first.name} and {spec.name} see videos at different rates or sizes")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.models = [for_inference(m, self.device, precision=precision, backend=backend) for m in models]
        self.labels = tuple(labels)
        self.networks: tuple[dict[str, str], ...] = ()
        """For each network that :meth:`load` read: ``weights``, ``model`` and ``sha256`` of its tensors."""
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
        """A recognizer from weights files or run folders, one a stream.

        Args:
            weights: files, run folders or published names; none for the default network, which is downloaded once.
            device: where the models run; by default a GPU if there is one.
            flow_method: how optical flow is estimated, where a model wants it; see :func:`quovadis.estimate_flow`.
            flow_folder: where ``quovadis flow`` stored it; by default it is looked for beside each video.
            precision: of the models' convolutions.
            backend: what runs the models.

        Raises:
            WeightsError: they cannot be read. InvalidInputError: they do not go together.
        """
        chosen = weights or (default_weights(),)
        models = [load_model(w) for w in chosen]
        label_sets = {model.labels for model in models}
        if len(label_sets) > 1:
            raise InvalidInputError("these weights name different classes; streams must be trained on the same ones")
        labels = label_sets.pop() if label_sets else ()
        folder = None if flow_folder is None else Path(flow_folder)
        flow = FlowSource(flow_method, folder)
        networks = tuple(
            {"weights": fspath(w), "model": describe_model(m), "sha256": state_sha256(m.state_dict())}
            for w, m in zip(chosen, models, strict=True)
        )
        recognizer = cls(models, labels, device=device, flow=flow, precision=precision, backend=backend)
        recognizer.networks = networks
        return recognizer

    def describe(self) -> str:
        """The models in words: name and streams.

        >>> from quovadis.models.zoo import build_model
        >>> Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"]).describe()
        'i3d_tiny (rgb)'
        """
        names = {model.spec.name for model in self.models}
        if len(names) > 1:
            return " + ".join(self.describe_models())
        return f"{names.pop()} ({' + '.join(', '.join(s.kind for s in m.spec.streams) for m in self.models)})"

    def describe_models(self) -> list[str]:
        """Each model in words."""
        return [describe_model(model) for model in self.models]

    @property
    def has_class_maps(self) -> bool:
        """Whether :meth:`explain` works: every model has class activation maps."""
        return all(model.has_class_maps for model in self.models)

    def first_filters(self) -> dict[str, Tensor]:
        """For each stream the weight of its first convolution, (out, in, T, H, W): what figure 4 of the paper shows."""
        return {
            f"{model.spec.name} ({kind})": weight.cpu()
            for model in self.models
            for kind, weight in model.first_filters().items()
        }

    def read_transform(self) -> partial[Tensor]:
        """What a reader does to each frame as it is decoded: the short side to the size that the models expect."""
        return partial(resize_frames, short_side_px=self.spec.short_side_px)

    def logits(self, clip: Clip) -> Tensor:
        """Scores of one clip, already at the models' frame rate and short side, with flow; the center is cropped here.

        A model that takes clips of one length only (``ModelSpec.test_clip_frames``) is shown the clip piece by piece,
        as many at a time as its test footprint has; the mean of their logits counts.

        Args:
            clip: every ``spec.clip_stride``-th frame of a stretch of video at ``spec.fps``.

        Returns:
            float32 (classes,), on the CPU: the sum over the models.

        Raises:
            InvalidInputError: If a model returns NaN or infinity.
        """
        logits = sum_logits(self.stream_logits(clip))
        require_finite(logits, self.describe(), clip.source)
        return logits

    @torch.inference_mode()
    def stream_logits(self, clip: Clip) -> list[Tensor]:
        """As :meth:`logits`, but for each model apart."""
        scores = []
        for model in self.models:
            spec = model.spec
            pieces = cut_clip(transforms.center_crop(clip, spec.size_px), spec)
            at_once = max(spec.test_frames // (spec.test_clip_frames or spec.test_frames), 1)
            total = torch.zeros(len(self.labels), device=self.device)
            for start in range(0, len(pieces), at_once):
                streams = [clip_to_streams(piece, spec) for piece in pieces[start : start + at_once]]
                inputs = [transforms.to_model(torch.stack(s).to(self.device)) for s in zip(*streams, strict=True)]
                total += model(*inputs).float().sum(0)
            scores.append((total / len(pieces)).cpu())
            require_finite(scores[-1], describe_model(model), clip.source)
        return scores

    def predict(
        self,
        path: str | PathLike[str],
        *,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        num_threads: int = 0,
        on_window: Callable[[Window], None] | None = None,
    ) -> Prediction:
        """Name the action in a video of any length, at constant memory.

        The video is read at 25 fps in windows, by default of the model's test footprint (10 s for I3D), one after the
        other; while one is looked at, the next is decoded. The answer for the whole is the mean of their logits. A
        video shorter than a training clip is looped to one, as in the paper. A damaged video is recognized from what
        decodes, and the prediction says so.

        Args:
            path: any video file.
            window_seconds: length of a window.
            stride_seconds: from one window to the next; by default the windows touch.
            num_threads: for decoding.
            on_window: called with each window once it has its scores; what it raises ends the work.

        Raises:
            VideoError: the file cannot be read at all. InvalidInputError: a window or stride that is too short; logits
                that are NaN or infinite.
        """
        window, stride = self._window_frames(window_seconds, stride_seconds)
        notes: list[str] = []
        scored = []
        for clip, start, stop in self._clips(path, window, stride, notes, num_threads=num_threads):
            scored.append(Window(start, stop, self.logits(clip)))
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
        Memory grows with the video, by 15 MB a minute for 400 classes unless ``labels`` are given.

        Args:
            path: Any video file.
            labels: Classes to map; by default the most probable ones.
            num_labels: How many of the most probable classes, where ``labels`` is empty.
            window_seconds: Length of a window, as for :meth:`predict`.
            on_window: Called with each window after it was scored.

        Raises:
            VideoError: If the file cannot be read. UnknownNameError: If a label is not a class of the model.
            InvalidInputError: If a model has no linear classifier over a grid, such as conv3d.
        """
        for label in labels:
            if label not in self.labels:
                raise UnknownNameError.among("class", label, self.labels)
        if num_labels < 1:
            raise InvalidInputError(f"num_labels must be at least 1; got {num_labels}")
        chosen = [self.labels.index(label) for label in labels]
        window, stride = self._window_frames(window_seconds, None)
        notes: list[str] = []
        scored: list[Window] = []
        kept: list[Tensor] = []
        centers: list[Tensor] = []
        for clip, start, stop in self._clips(path, window, stride, notes):
            maps, logits = self._class_maps(clip)
            step_seconds = len(clip) / self._rate / maps.shape[1]
            center = start + (torch.arange(maps.shape[1], dtype=torch.float64) + 0.5) * step_seconds
            # Windows overlap at the end of the video, and a short video is looped.
            new = (center < stop) & (center > scored[-1].stop_seconds if scored else True)
            new[0] |= not scored
            kept.append((maps[chosen] if chosen else maps)[:, new])
            centers.append(center[new])
            scored.append(Window(start, stop, logits))
            if on_window is not None:
                on_window(scored[-1])
        prediction = self._prediction(path, scored, notes, window, stride)
        everything = torch.cat(kept, 1)
        if not chosen:
            best = prediction.logits.topk(min(num_labels, len(self.labels))).indices
            everything, labels = everything[best], [self.labels[i] for i in best.tolist()]
        return ActivationMaps(
            prediction, tuple(labels), everything, torch.cat(centers), self.spec.short_side_px, self.spec.size_px
        )

    def _prediction(
        self, path: str | PathLike[str], scored: Sequence[Window], notes: Sequence[str], window: int, stride: int
    ) -> Prediction:
        """The answer for a video: the mean of the logits of its windows, whose length and stride are in frames."""
        mean = torch.stack([w.logits for w in scored]).mean(0)
        require_finite(mean, self.describe(), str(path))
        fps = self.spec.fps
        return Prediction(str(path), self.labels, mean, tuple(scored), tuple(notes), window / fps, stride / fps)

    def _class_maps(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Maps (classes, T', h, w) and logits (classes,) of one clip, summed over the models, on the CPU."""
        clip = transforms.center_crop(clip, self.spec.size_px)
        all_maps, all_logits = [], []
        for model in self.models:
            streams = clip_to_streams(clip, model.spec)
            maps = model.class_maps(*(transforms.to_model(s[None].to(self.device)) for s in streams))
            all_logits.append(model.pool_class_maps(maps)[0].float().cpu())
            all_maps.append(maps[0].float().cpu())
        return torch.stack(all_maps).sum(0), sum_logits(all_logits)

    def _window_frames(self, window_seconds: float | None, stride_seconds: float | None) -> tuple[int, int]:
        """Length and stride of the windows in frames.

        Raises:
            InvalidInputError: If one of them is too short.
        """
        spec = self.spec
        window = round(window_seconds * spec.fps) if window_seconds is not None else spec.test_frames
        if window < spec.min_frames:
            raise InvalidInputError(
                f"a window of {window} frames is too short for {spec.name}, which needs at least {spec.min_frames}: "
                f"use {spec.min_frames / spec.fps:.2f} seconds or more"
            )
        stride = round(stride_seconds * spec.fps) if stride_seconds is not None else window
        if stride < 1:
            raise InvalidInputError(f"the stride must be at least one frame; got {stride_seconds} seconds")
        return window, stride

    def _clips(
        self, path: str | PathLike[str], window: int, stride: int, notes: list[str], *, num_threads: int = 0
    ) -> Iterator[tuple[Clip, float, float]]:
        """Windows of a video with flow where a model needs it, and their start and end in seconds.

        While one is used, the next is decoded. Notes are added where the video is short or damaged.
        """
        spec = self.spec
        with (
            VideoReader(path, num_threads=num_threads) as reader,
            closing(prefetch(self._windows(reader, window, stride), depth=1)) as windows,
        ):
            for first_tick, clip, stop in windows:
                start = reader.frame_seconds(first_tick, spec.fps)
                if self.needs_flow:
                    clip = self.flow.add_to(clip, fps=spec.fps, short_side_px=spec.short_side_px, first_tick=first_tick)
                yield self._fill(clip, window, notes), start, stop
            notes += reader.notes
            if reader.damage:
                notes.append(f"the file is damaged ({reader.damage}); this is about the part that decodes")

    @property
    def _rate(self) -> float:
        """Frames a second that a clip holds."""
        return self.spec.fps / self.spec.clip_stride

    def _windows(self, reader: VideoReader, window: int, stride: int) -> Iterator[tuple[int, Clip, float]]:
        """Stretches of ``window`` frames, every ``stride``; the last is moved back to end with the video.

        A clip holds every ``clip_stride``-th frame of its stretch, and no others are resized. With each comes the
        number of its first frame in the video, and when the stretch ends.
        """
        resize = self.read_transform()
        every = self.spec.clip_stride
        kept: deque[tuple[int, Tensor, float]] = deque(maxlen=-(-window // every))
        until_next = window
        last_frame, picture = None, None
        for tick, frame in reader.resampled_frames(self.spec.fps):
            if tick % every == 0:
                if frame is not last_frame:
                    last_frame, picture = frame, resize(frame.pixels.unsqueeze(0))[0]
                assert picture is not None
                kept.append((tick, picture, frame.pts_seconds))
            until_next -= 1
            if until_next == 0:
                yield kept[0][0], _clip(kept, reader), reader.frame_seconds(tick + 1, self.spec.fps)
                until_next = stride
        if len(kept) < -(-window // every) or until_next != stride:
            yield kept[0][0], _clip(kept, reader), reader.frame_seconds(tick + 1, self.spec.fps)

    def _fill(self, clip: Clip, window: int, notes: list[str]) -> Clip:
        """Loop a video that is shorter than a training clip, and than a window."""
        wanted = min(clip_extent(self.spec)[0], -(-window // self.spec.clip_stride))
        if len(clip) >= wanted:
            return clip
        notes.append(f"the video has {len(clip)} frames at {self._rate:g} fps; looped to {wanted}")
        return clip.take(torch.from_numpy(fit_length(len(clip), wanted, "loop")))


def describe_model(model: VideoModel) -> str:
    """A model in words: its name and streams."""
    return f"{model.spec.name} ({', '.join(s.kind for s in model.spec.streams)})"


def _clip(kept: deque[tuple[int, Tensor, float]], reader: VideoReader) -> Clip:
    frames = torch.stack([picture for _, picture, _ in kept])
    return Clip(frames, torch.tensor([t for _, _, t in kept], dtype=torch.float64), source=str(reader.path))


def _shared_input_settings(spec: ModelSpec) -> tuple[float, int, int, int]:
    """What models have in common that look at one video together."""
    return spec.fps, spec.clip_stride, spec.short_side_px, spec.size_px
