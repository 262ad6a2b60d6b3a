"""Analyze uploaded videos: recognition, optical flow, comparison of models, comparison of clips."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.datasets.clip_dataset import clip_extent
from quovadis.errors import InvalidInputError
from quovadis.flow.draw import draw_flow
from quovadis.flow.estimate import estimate_flow
from quovadis.inference.feature_presets import FEATURE_PRESETS
from quovadis.inference.features import FeatureExtractor, FeatureRows
from quovadis.inference.prediction import Window
from quovadis.inference.recognizer import Recognizer
from quovadis.inference.timeline import Timeline, make_timeline
from quovadis.report.explain import select_explainable
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.web.job_queue import ProgressCallback
from quovadis.web.limits import Limits, UploadInfo, use_display_name
from quovadis.web.results import (
    Comparison,
    FeatureComparison,
    FlowFrame,
    FlowSample,
    Recognition,
    VideoPrediction,
)

_MAX_WINDOWS = 240
_MAX_ROWS = 160
_NUM_MAPS = 5
_NUM_FLOW_FRAMES, _THUMBNAIL_PX = 8, 200


def predict(
    recognizer: Recognizer,
    path: str | Path,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    draw_maps: bool = False,
    on_progress: ProgressCallback = lambda fraction, description: None,
) -> VideoPrediction:
    """Predict the classes of a whole video, as :meth:`Recognizer.predict` with default arguments.

    Args:
        recognizer: The network or networks.
        path: Video file.
        name: Display name of the file; by default the name of the file.
        limits: Limits on the video; by default :class:`~quovadis.web.limits.Limits`.
        draw_maps: Whether to compute activation maps in the same pass, if all networks have them and use RGB.
        on_progress: See :data:`~quovadis.web.job_queue.ProgressCallback`.

    Returns:
        The prediction.

    Raises:
        VideoError: If the video cannot be read.
        InvalidInputError: If the video exceeds a limit.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
        >>> predict(recognizer, getfixture("clip_path"), draw_maps=True).maps.maps.shape
        torch.Size([2, 4, 2, 2])
    """
    started = time.perf_counter()
    path = Path(path)
    name = path.name if name is None else name
    info = (limits or Limits()).check(path, name)
    on_progress(0.0, "reading the video")
    on_window = _window_counter(0.0, 1.0, info, on_progress)
    maps = None
    with use_display_name(path, name):
        if draw_maps and select_explainable(recognizer) is recognizer:
            maps = recognizer.explain(path, num_labels=_NUM_MAPS, on_window=on_window)
            prediction = maps.prediction
        else:
            prediction = recognizer.predict(path, on_window=on_window)
    return VideoPrediction(
        video=name,
        info=info,
        model=recognizer.describe(),
        flow_method=recognizer.flow.method,
        prediction=replace(prediction, source=name),
        work_seconds=time.perf_counter() - started,
        maps=maps,
        maps_model=recognizer.describe() if maps is not None else "",
        calibration=describe_calibration(recognizer),
    )


def recognize(
    recognizer: Recognizer,
    path: str | Path,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    draw_maps: bool = True,
    on_prediction: Callable[[VideoPrediction], None] = lambda prediction: None,
    on_progress: ProgressCallback = lambda fraction, description: None,
) -> Recognition:
    """Predict the classes of a video with their activation maps, then its timeline.

    The windows of the timeline have the length of a training clip and overlap by half; in long videos they are farther
    apart, so that there are at most 240. For an RGB and a flow network, the maps are those of the RGB network, and are
    computed last.

    Args:
        recognizer: The network or networks.
        path: Video file.
        name: Display name of the file; by default the name of the file.
        limits: Limits on the video; by default :class:`~quovadis.web.limits.Limits`.
        draw_maps: Whether to compute activation maps.
        on_prediction: Called with the prediction before the timeline is computed.
        on_progress: See :data:`~quovadis.web.job_queue.ProgressCallback`.

    Returns:
        The prediction and the timeline.

    Raises:
        VideoError: If the video cannot be read.
        InvalidInputError: If the video exceeds a limit.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
        >>> result = recognize(recognizer, getfixture("clip_path"))
        >>> result.overall.video, result.span_seconds, len(result.timeline.prediction.windows)
        ('square.mp4', (0.0, 1.2), 3)
    """
    started = time.perf_counter()
    path = Path(path)
    overall = predict(
        recognizer,
        path,
        name=name,
        limits=limits,
        draw_maps=draw_maps,
        on_progress=lambda fraction, description: on_progress(0.4 * fraction, description),
    )
    name = overall.video
    on_prediction(overall)
    with use_display_name(path, name):
        on_progress(0.4, "computing the timeline")
        timeline = _make_timeline(recognizer, path, overall.info, on_progress)
        if draw_maps and overall.maps is None:
            overall = _add_maps(overall, recognizer, path, on_progress)
    timeline = replace(timeline, prediction=replace(timeline.prediction, source=name))
    return Recognition(overall, timeline, time.perf_counter() - started)


def describe_calibration(recognizer: Recognizer) -> str:
    """Describe how the probabilities of a recognizer were calibrated; empty if they were not.

    A classifier on frozen features is calibrated on videos that it was not trained on. Its metadata states the
    temperature, by which the weights of the classifier were divided. The sum of several networks is not calibrated.
    """
    if len(recognizer.models) != 1:
        return ""
    source = recognizer.models[0].source
    if "temperature" not in source:
        return ""
    return f"calibrated on held-out videos (temperature {source['temperature']:.2f})"


def _make_timeline(recognizer: Recognizer, path: Path, info: UploadInfo, on_progress: ProgressCallback) -> Timeline:
    spec = recognizer.spec
    window = clip_extent(spec)[2] / spec.fps
    stride = max(window / 2, round(info.seconds / _MAX_WINDOWS * spec.fps) / spec.fps)
    on_window = _window_counter(0.4, 0.85, info, on_progress, "timeline, ")
    return make_timeline(recognizer, path, window_seconds=window, stride_seconds=stride, on_window=on_window)


def _add_maps(
    overall: VideoPrediction, recognizer: Recognizer, path: Path, on_progress: ProgressCallback
) -> VideoPrediction:
    """Add the activation maps of the RGB networks of a recognizer that has other networks as well."""
    part = select_explainable(recognizer)
    if part is None:
        return overall
    labels = [label for label, _ in overall.prediction.top(_NUM_MAPS)]
    on_window = _window_counter(0.85, 1.0, overall.info, on_progress, "activation maps, ")
    return replace(overall, maps=part.explain(path, labels=labels, on_window=on_window), maps_model=part.describe())


def _window_counter(
    start: float, stop: float, info: UploadInfo, on_progress: ProgressCallback, prefix: str = ""
) -> Callable[[Window], None]:
    """Return a callback that reports progress from ``start`` to ``stop`` by the end times of windows."""
    starts: list[float] = []

    def on_window(window: Window) -> None:
        starts.append(window.start_seconds)
        fraction = min((window.stop_seconds - starts[0]) / max(info.seconds, 1e-9), 1.0)
        on_progress(start + (stop - start) * fraction, f"{prefix}window {len(starts)}")

    return on_window


def sample_flow(
    recognizer: Recognizer,
    path: str | Path,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    on_progress: ProgressCallback = lambda fraction, description: None,
) -> FlowSample:
    """Draw evenly spaced frames of a video and their optical flow at the input size of the network.

    All flow images share one scale: the longest vector, at least one pixel, has the full color.

    Args:
        recognizer: Recognizer with the frame rate, the frame size and the flow method.
        path: Video file.
        name: Display name of the file; by default the name of the file.
        limits: Limits on the video; by default :class:`~quovadis.web.limits.Limits`.
        on_progress: See :data:`~quovadis.web.job_queue.ProgressCallback`.

    Returns:
        Eight frames with their flow.

    Raises:
        VideoError: If the video cannot be read.
        InvalidInputError: If the video exceeds a limit.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
        >>> len(sample_flow(recognizer, getfixture("clip_path")).frames)
        8
    """
    path = Path(path)
    name = path.name if name is None else name
    seconds = (limits or Limits()).check(path, name).seconds
    spec = recognizer.spec
    pairs, frames, times = [], [], []
    with use_display_name(path, name), VideoReader(path) as reader:
        start = reader.first_pts_seconds
        last_start = max(start + seconds - 2 / spec.fps, start)
        for i in range(_NUM_FLOW_FRAMES):
            on_progress(0.5 * i / _NUM_FLOW_FRAMES, "reading frames")
            clip = reader.read(
                fps=spec.fps,
                start_seconds=min(start + seconds * (i + 0.5) / _NUM_FLOW_FRAMES, last_start),
                num_frames=2,
                short="pad",
                damaged="keep",
            )
            assert clip is not None
            pairs.append(resize_frames(clip.frames, spec.short_side_px))
            frames.append(resize_frames(clip.frames[:1], min(_THUMBNAIL_PX, clip.height, clip.width))[0])
            times.append(float(clip.pts_seconds[0]))
    on_progress(0.5, "estimating optical flow")
    flows = torch.cat(estimate_flow(pairs, recognizer.flow.method, device=recognizer.device))
    longest_px = max(float(flows.square().sum(1).max().sqrt()), 1.0)
    return FlowSample(tuple(map(FlowFrame, times, frames, draw_flow(flows, longest_px))), recognizer.flow.method)


def compare(
    first: Recognizer,
    second: Recognizer,
    path: str | Path,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    on_progress: ProgressCallback = lambda fraction, description: None,
) -> Comparison:
    """Recognize a video with two recognizers. For the other arguments, see :func:`recognize`."""

    def half(offset: float, which: str) -> ProgressCallback:
        return lambda fraction, description: on_progress(offset + fraction / 2, f"{which} model: {description}")

    a = recognize(first, path, name=name, limits=limits, draw_maps=False, on_progress=half(0.0, "first"))
    b = recognize(second, path, name=name, limits=limits, draw_maps=False, on_progress=half(0.5, "second"))
    return Comparison(a, b)


def compare_features(
    recognizer: Recognizer,
    first: str | Path,
    second: str | Path,
    *,
    names: tuple[str, str] | None = None,
    limits: Limits | None = None,
    on_progress: ProgressCallback = lambda fraction, description: None,
) -> FeatureComparison:
    """Compute the cosine similarities between the features of two clips.

    The windows have the length of a training clip. Their stride is at least a quarter of it, and large enough for at
    most 160 windows per clip. Similarities are averaged over the streams.

    Args:
        recognizer: One or more networks of one stream each.
        first: Video file.
        second: Video file.
        names: Display names of the files; by default the names of the files.
        limits: Limits on each video.
        on_progress: See :data:`~quovadis.web.job_queue.ProgressCallback`.

    Raises:
        VideoError: If a video cannot be read.
        InvalidInputError: If a video exceeds a limit, or a network has several input streams.
    """
    started = time.perf_counter()
    paths = (Path(first), Path(second))
    names = (paths[0].name, paths[1].name) if names is None else names
    infos = [(limits or Limits()).check(p, n) for p, n in zip(paths, names, strict=True)]
    longest_seconds = max(info.seconds for info in infos)
    spec = recognizer.spec
    stride = max(round(longest_seconds * spec.fps / _MAX_ROWS), clip_extent(spec)[2] // 4, 1)
    preset = replace(FEATURE_PRESETS["quovadis"], stride=stride)
    extractor = FeatureExtractor(recognizer.models, preset, device=recognizer.device, flow=recognizer.flow)
    rows = [
        _extract(extractor, path, name, lambda fraction, what, i=i: on_progress((i + fraction) / 2, what))  # type: ignore[misc]
        for i, (path, name) in enumerate(zip(paths, names, strict=True))
    ]
    features = {kind: (rows[0].features[kind], rows[1].features[kind]) for kind in extractor.models}
    cosines = [_normalize(a) @ _normalize(b).T for a, b in features.values()]
    own = [
        _self_similarity([_normalize(r.features[kind]) for kind in extractor.models], r.start_seconds, r.stop_seconds)
        for r in rows
    ]
    means = [float(F.cosine_similarity(a.mean((0, 1)), b.mean((0, 1)), dim=0)) for a, b in features.values()]
    return FeatureComparison(
        videos=names,
        streams=tuple(features),
        center_seconds=(rows[0].center_seconds, rows[1].center_seconds),
        similarity=torch.stack(cosines).mean(0),
        mean_similarity=sum(means) / len(means),
        self_similarity=(own[0], own[1]),
        window_seconds=extractor.window / recognizer.spec.fps,
        work_seconds=time.perf_counter() - started,
    )


def _self_similarity(
    features: Sequence[Tensor], start_seconds: Sequence[float], stop_seconds: Sequence[float]
) -> float | None:
    """Return the mean cosine similarity of the windows of a clip that do not overlap, averaged over the streams.

    Args:
        features: Features of each stream, float (windows, D), of unit length.
        start_seconds: Start of each window.
        stop_seconds: End of each window.

    Returns:
        The mean, or None if all windows overlap.
    """
    starts, stops = (torch.tensor(times, dtype=torch.float64) for times in (start_seconds, stop_seconds))
    apart = starts[None, :] >= stops[:, None] - 1e-6
    if not apart.any():
        return None
    return float(torch.stack([(f @ f.T)[apart].mean() for f in features]).mean())


def _extract(extractor: FeatureExtractor, path: Path, name: str, on_progress: ProgressCallback) -> FeatureRows:
    """Extract the features of all windows of a clip."""
    batches, num_done = [], 0
    with use_display_name(path, name):
        with VideoReader(path) as reader:
            num_expected = max(extractor.num_rows(extractor.count_frames(reader)), 1)
        for batch in extractor.rows(path):
            batches.append(batch)
            num_done += len(batch)
            fraction = min(num_done / num_expected, 1.0)
            on_progress(fraction, f"features of {name}, window {num_done} of {max(num_expected, num_done)}")
    if not batches:
        raise InvalidInputError(f"{name} has no frames")
    return FeatureRows.join(batches)


def _normalize(features: Tensor) -> Tensor:
    """Average features (windows, crops, D) over crops and scale them to unit length: float32 (windows, D)."""
    return F.normalize(features.mean(1), dim=1)
