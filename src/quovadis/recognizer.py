"""THE pipeline, for one video: video -> transforms -> flow -> models -> fuse.

A recogniser holds one model, or one model a stream, and the names of the classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.datasets.flow_files import FlowSource
from quovadis.datasets.loader import clip_extent
from quovadis.datasets.streams import clip_to_streams
from quovadis.errors import InvalidInputError
from quovadis.fuse import sum_logits
from quovadis.models.contract import VideoModel
from quovadis.types import Clip, Prediction, Window
from quovadis.video.reader import VideoReader
from quovadis.video.sampling import fit_length
from quovadis.weights.load import load_model


class Recognizer:
    """Names the action in videos.

    Args:
        models: one model, or several whose logits are added: two-stream I3D is an RGB and a flow model.
        labels: class names in the order of the logits.
        device: where the models run; by default a GPU if there is one.
        flow: where optical flow comes from, where a model wants it; by default a stored file beside the video, or else
            TV-L1 as it is needed.

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
    ):
        if not models:
            raise InvalidInputError("a recogniser needs at least one model")
        first = models[0].spec
        for model in models:
            if model.num_classes != len(labels):
                raise InvalidInputError(
                    f"{model.spec.name} has {model.num_classes} classes and there are {len(labels)} labels"
                )
            spec = model.spec
            if (spec.fps, spec.short_side_px, spec.size_px) != (first.fps, first.short_side_px, first.size_px):
                raise InvalidInputError(f"{first.name} and {spec.name} see videos at different rates or sizes")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.models = [model.to(self.device).channels_last().eval() for model in models]
        self.labels = tuple(labels)
        self.spec = first
        self.flow = flow or FlowSource()
        self.wants_flow = any(model.spec.wants_flow for model in models)

    @classmethod
    def load(
        cls,
        *weights: str | PathLike[str],
        device: str | torch.device | None = None,
        flow_method: str = "tvl1",
        flow_folder: str | PathLike[str] | None = None,
    ) -> Recognizer:
        """A recogniser from weights files or run folders, one a stream.

        Args:
            weights: files, run folders or published names.
            device: where the models run; by default a GPU if there is one.
            flow_method: how optical flow is estimated, where a model wants it; see :func:`quovadis.estimate_flow`.
            flow_folder: where ``quovadis flow`` stored it; by default it is looked for beside each video.

        Raises:
            WeightsError: they cannot be read. InvalidInputError: they do not go together.
        """
        models = [load_model(w) for w in weights]
        label_sets = {model.labels for model in models}
        if len(label_sets) > 1:
            raise InvalidInputError("these weights name different classes; streams must be trained on the same ones")
        labels = label_sets.pop() if label_sets else ()
        folder = None if flow_folder is None else Path(flow_folder)
        return cls(models, labels, device=device, flow=FlowSource(flow_method, folder))

    def describe(self) -> str:
        """The models in words: name and streams.

        >>> from quovadis.models.zoo import build_model
        >>> Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"]).describe()
        'i3d_tiny (rgb)'
        """
        return " + ".join(self.describe_models())

    def describe_models(self) -> list[str]:
        """Each model in words."""
        return [f"{m.spec.name} ({', '.join(s.kind for s in m.spec.streams)})" for m in self.models]

    def first_filters(self) -> dict[str, Tensor]:
        """For each model the weight of its first convolution, (out, in, T, H, W): what figure 4 of the paper shows."""
        first = (next(p for p in model.parameters() if p.ndim == 5) for model in self.models)
        return {name: weight.detach().cpu() for name, weight in zip(self.describe_models(), first, strict=True)}

    def read_transform(self) -> partial[Tensor]:
        """What a reader does to each frame as it is decoded: the short side to the size that the models expect."""
        return partial(transforms.resize_short_side, size_px=self.spec.short_side_px)

    def logits(self, clip: Clip) -> Tensor:
        """Scores of one clip, already at the models' frame rate and short side, with flow; the centre is cropped here.

        Returns:
            float32 (classes,), on the CPU: the sum over the models.
        """
        return sum_logits(self.stream_logits(clip))

    @torch.inference_mode()
    def stream_logits(self, clip: Clip) -> list[Tensor]:
        """As :meth:`logits`, but for each model apart."""
        scores = []
        for model in self.models:
            cropped = transforms.center_crop(clip, model.spec.size_px)
            streams = clip_to_streams(cropped, model.spec)
            inputs = [transforms.to_model(s.to(self.device)).unsqueeze(0) for s in streams]
            inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
            scores.append(model(*inputs)[0].float().cpu())
        return scores

    def predict(
        self,
        path: str | PathLike[str],
        *,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        num_threads: int = 0,
    ) -> Prediction:
        """Name the action in a video of any length, at constant memory.

        The video is read at 25 fps in windows, by default of the model's test footprint (10 s for I3D), one after the
        other; the answer for the whole is the mean of their logits. A video shorter than a training clip is looped
        to one, as in the paper. A damaged video is recognised from what decodes, and the prediction says so.

        Args:
            path: any video file.
            window_seconds: length of a window.
            stride_seconds: from one window to the next; by default the windows touch.
            num_threads: for decoding.

        Raises:
            VideoError: the file cannot be read at all.
        """
        spec = self.spec
        window = round(window_seconds * self._rate) if window_seconds is not None else spec.test_frames
        if window < spec.min_frames:
            raise InvalidInputError(
                f"a window of {window} frames is too short for {spec.name}, which needs at least {spec.min_frames}: "
                f"use {spec.min_frames / self._rate:.2f} seconds or more"
            )
        stride = round(stride_seconds * self._rate) if stride_seconds is not None else window
        if stride < 1:
            raise InvalidInputError(f"the stride must be at least one frame; got {stride_seconds} seconds")
        notes: list[str] = []
        scored = []
        with VideoReader(path, num_threads=num_threads) as reader:
            for first_tick, clip in self._windows(reader, window, stride):
                start, stop = float(clip.pts_seconds[0]), float(clip.pts_seconds[-1]) + 1 / self._rate
                if self.wants_flow:
                    clip = self.flow.add_to(
                        clip, fps=self._rate, short_side_px=spec.short_side_px, first_tick=first_tick
                    )
                clip = self._fill(clip, window, notes)
                scored.append(Window(start, stop, self.logits(clip)))
            if reader.damage:
                notes.append(f"the file is damaged ({reader.damage}); this is about the part that decodes")
        mean = torch.stack([w.logits for w in scored]).mean(0)
        return Prediction(str(path), self.labels, mean, tuple(scored), tuple(notes))

    @property
    def _rate(self) -> float:
        """Frames a second that the models are shown."""
        return self.spec.fps / clip_extent(self.spec)[1]

    def _windows(self, reader: VideoReader, window: int, stride: int) -> Iterator[tuple[int, Clip]]:
        """Stretches of ``window`` frames, every ``stride``, with the number of their first tick.

        The last is moved back to end with the video.
        """
        resize = self.read_transform()
        kept: deque[tuple[Tensor, float]] = deque(maxlen=window)
        until_next = window
        last_frame, picture = None, None
        for tick, frame in reader.ticks(self._rate):
            if frame is not last_frame:
                last_frame, picture = frame, resize(frame.pixels.unsqueeze(0))[0]
            assert picture is not None
            kept.append((picture, frame.pts_seconds))
            until_next -= 1
            if until_next == 0:
                yield tick + 1 - len(kept), _clip(kept, reader)
                until_next = stride
        if len(kept) < window or until_next != stride:
            yield tick + 1 - len(kept), _clip(kept, reader)

    def _fill(self, clip: Clip, window: int, notes: list[str]) -> Clip:
        """Loop a video that is shorter than a training clip, and than a window."""
        wanted = min(clip_extent(self.spec)[0], window)
        if len(clip) >= wanted:
            return clip
        notes.append(f"the video has {len(clip)} frames at {self._rate:g} fps; looped to {wanted}")
        return clip.take(torch.from_numpy(fit_length(len(clip), wanted, "loop")))


def _clip(kept: deque[tuple[Tensor, float]], reader: VideoReader) -> Clip:
    frames = torch.stack([picture for picture, _ in kept])
    return Clip(frames, torch.tensor([t for _, t in kept], dtype=torch.float64), source=str(reader.path))
