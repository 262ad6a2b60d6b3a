"""A file in, everything that the page shows about it out; no page is needed to ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
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
from quovadis.inference.prediction import Prediction, Window
from quovadis.inference.recognizer import Recognizer
from quovadis.inference.timeline import Timeline, make_timeline
from quovadis.models.spec import StreamKind
from quovadis.report.explain import explaining_part, explanation_frames
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.writer import write_video
from quovadis.web.limits import Limits, VideoFacts, called

Report = Callable[[float, str], None]
"""Told the share of the work that is done, in [0, 1], and what is being done; what it raises ends the work."""

_MAX_WINDOWS = 240
_MAX_ROWS = 160
_NUM_MOMENTS, _MOMENT_PX = 8, 200
_PREVIEW_PX = 360


@dataclass(frozen=True)
class Moment:
    """A frame with its flow to the next one."""

    seconds: float
    frame: Tensor
    """uint8 (3, H, W), RGB, the short side 200 pixels at most."""
    flow: Tensor
    """uint8 (3, h, w), at the size that the network sees: its flow as :func:`quovadis.flow.draw.draw_flow` shows it."""


@dataclass(frozen=True)
class Evidence:
    """Where a network found evidence for the most probable class: frames with class activation maps."""

    label: str
    model: str
    """The network, or the part of it, that has the maps."""
    seconds: tuple[float, ...]
    frames: Tensor
    """uint8 (T, 3, H, W)."""


@dataclass(frozen=True)
class Answer:
    """The classes of a whole video."""

    video: str
    """The name of the file, without a folder."""
    facts: VideoFacts
    model: str
    flow_method: str
    prediction: Prediction
    """As :meth:`Recognizer.predict` gives it with its defaults, and so as ``quovadis predict`` does."""
    work_seconds: float


@dataclass(frozen=True)
class Recognition:
    """The answer of one model for a video, and what happens when."""

    answer: Answer
    timeline: Timeline
    """Of shorter windows, which overlap."""
    moments: tuple[Moment, ...]
    evidence: Evidence | None
    """None for networks without class activation maps."""
    work_seconds: float

    @property
    def span_seconds(self) -> tuple[float, float]:
        """The first and the last second of the timeline, on the file's own clock."""
        cells = self.timeline.cells()
        return cells[0][0], cells[-1][1]


@dataclass(frozen=True)
class Comparison:
    """What two models say about one video."""

    first: Recognition
    second: Recognition

    @property
    def agreement(self) -> float:
        """The share of the time in which both name the same class, in [0, 1]."""
        tracks = [_best_labels(r.timeline) for r in (self.first, self.second)]
        edges = sorted({edge for track in tracks for start, stop, _ in track for edge in (start, stop)})
        same = sum(b - a for a, b in pairwise(edges) if len({_label_at((a + b) / 2, t) for t in tracks}) == 1)
        return same / (edges[-1] - edges[0])


@dataclass(frozen=True)
class FeatureComparison:
    """How alike two clips are to a network, moment by moment."""

    videos: tuple[str, str]
    streams: tuple[StreamKind, ...]
    center_seconds: tuple[list[float], list[float]]
    """Of the rows of each clip."""
    similarity: Tensor
    """float32 (rows of the first, rows of the second): the cosine of the features, the mean over the streams."""
    mean_similarity: float
    """The cosine of the mean features, the mean over the streams: one number for the two clips."""
    window_seconds: float
    work_seconds: float


def recognize(
    recognizer: Recognizer,
    path: str | Path,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    pictures: bool = True,
    on_answer: Callable[[Answer], None] = lambda answer: None,
    on_progress: Report = lambda share, what: None,
) -> Recognition:
    """Classes of a whole video, then its timeline, then pictures of flow and evidence.

    The classes are those of :meth:`Recognizer.predict` with its defaults. Windows of the timeline are as long as a
    training clip and half overlap; in a long video they are further apart, so that there are at most 240.

    Args:
        recognizer: the model or models.
        path: the file.
        name: what the person calls it; by default the name of the file.
        limits: what is taken; by default :class:`~quovadis.web.limits.Limits`.
        pictures: Whether to draw flow and evidence.
        on_answer: Called with the classes before the rest is computed.
        on_progress: see :data:`Report`.

    Raises:
        VideoError: it cannot be read. InvalidInputError: it is beyond the limits.

    >>> from quovadis.models.zoo import build_model
    >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
    >>> found = recognize(recognizer, getfixture("clip_path"))
    >>> found.answer.video, found.span_seconds, len(found.timeline.prediction.windows), len(found.moments)
    ('square.mp4', (0.0, 1.2), 3, 8)
    """
    started = time.perf_counter()
    path = Path(path)
    name = path.name if name is None else name
    facts = (limits or Limits()).check(path, name)
    on_progress(0.0, "reading the video")
    with called(path, name):
        prediction = recognizer.predict(path, on_window=_counter(0.0, 0.4, facts, on_progress))
        answer = Answer(
            video=name,
            facts=facts,
            model=recognizer.describe(),
            flow_method=recognizer.flow.method,
            prediction=replace(prediction, source=name),
            work_seconds=time.perf_counter() - started,
        )
        on_answer(answer)
        on_progress(0.4, "computing the timeline")
        timeline = _timeline(recognizer, path, facts, on_progress)
        moments: tuple[Moment, ...] = ()
        evidence = None
        if pictures:
            on_progress(0.8, "drawing the flow")
            moments = show_moments(recognizer, path, timeline.cells()[0][0], timeline.cells()[-1][1])
            evidence = find_evidence(recognizer, path, prediction.label, facts, on_progress)
    timeline = replace(timeline, prediction=replace(timeline.prediction, source=name))
    return Recognition(answer, timeline, moments, evidence, time.perf_counter() - started)


def _timeline(recognizer: Recognizer, path: Path, facts: VideoFacts, on_progress: Report) -> Timeline:
    spec = recognizer.spec
    window = clip_extent(spec)[2] / spec.fps
    stride = max(window / 2, round(facts.seconds / _MAX_WINDOWS * spec.fps) / spec.fps)
    count = _counter(0.4, 0.8, facts, on_progress, "timeline, ")
    return make_timeline(recognizer, path, window_seconds=window, stride_seconds=stride, on_window=count)


def find_evidence(
    recognizer: Recognizer, path: Path, label: str, facts: VideoFacts, on_progress: Report
) -> Evidence | None:
    """Frames with the class activation maps of a class; None for networks without maps."""
    part = explaining_part(recognizer)
    if part is None:
        return None
    count = _counter(0.85, 1.0, facts, on_progress, "evidence, ")
    found = part.explain(path, labels=[label], on_window=count)
    seconds, frames = explanation_frames(found, path)
    small = resize_frames(frames, min(_MOMENT_PX, *frames.shape[2:]))
    return Evidence(label, part.describe(), tuple(seconds), small)


def _counter(
    start: float, stop: float, facts: VideoFacts, on_progress: Report, what: str = ""
) -> Callable[[Window], None]:
    """Report progress from ``start`` to ``stop`` by the time that each window ends at."""
    first: list[float] = []

    def count(window: Window) -> None:
        first.append(window.start_seconds)
        share = min((window.stop_seconds - first[0]) / max(facts.seconds, 1e-9), 1.0)
        on_progress(start + (stop - start) * share, f"{what}window {len(first)}")

    return count


def show_moments(recognizer: Recognizer, path: Path, start_seconds: float, stop_seconds: float) -> tuple[Moment, ...]:
    """Some frames, evenly over a stretch of a video, with the flow that a network would see from them to the next.

    All flow pictures have one scale: the longest vector of all has the full color, and one pixel at least.
    """
    spec = recognizer.spec
    pairs, frames, times = [], [], []
    with VideoReader(path) as reader:
        for i in range(_NUM_MOMENTS):
            seconds = start_seconds + (stop_seconds - start_seconds) * (i + 0.5) / _NUM_MOMENTS
            last_pair = max(stop_seconds - 2 / spec.fps, start_seconds)
            clip = reader.read(
                fps=spec.fps,
                start_seconds=min(seconds, last_pair),
                num_frames=2,
                short="pad",
                damaged="keep",
            )
            assert clip is not None
            pairs.append(resize_frames(clip.frames, spec.short_side_px))
            shown_px = min(_MOMENT_PX, clip.height, clip.width)
            frames.append(resize_frames(clip.frames[:1], shown_px)[0])
            times.append(float(clip.pts_seconds[0]))
    flows = torch.cat(estimate_flow(pairs, recognizer.flow.method, device=recognizer.device))
    longest = max(float(flows.square().sum(1).max().sqrt()), 1.0)
    pictures = draw_flow(flows, longest)
    return tuple(Moment(*moment) for moment in zip(times, frames, pictures, strict=True))


def compare(
    first: Recognizer,
    second: Recognizer,
    path: str | Path,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    on_progress: Report = lambda share, what: None,
) -> Comparison:
    """The same video through two models; arguments are those of :func:`recognize`."""

    def half(offset: float, which: str) -> Report:
        return lambda share, what: on_progress(offset + share / 2, f"{which} model: {what}")

    a = recognize(first, path, name=name, limits=limits, pictures=False, on_progress=half(0.0, "first"))
    b = recognize(second, path, name=name, limits=limits, pictures=False, on_progress=half(0.5, "second"))
    return Comparison(a, b)


def compare_features(
    recognizer: Recognizer,
    first: str | Path,
    second: str | Path,
    *,
    names: tuple[str, str] | None = None,
    limits: Limits | None = None,
    on_progress: Report = lambda share, what: None,
) -> FeatureComparison:
    """How alike two clips are to a network: the cosines between the features of their windows.

    Windows are as long as a training clip; they are as far apart as needed for 160 rows at most, four frames at
    least. Of several streams the mean of the cosines counts.

    Args:
        recognizer: networks of one stream each.
        first: a file.
        second: another.
        names: what the person calls them.
        limits: what is taken.
        on_progress: see :data:`Report`.

    Raises:
        VideoError, InvalidInputError: as :func:`recognize`; networks that take several streams at once.
    """
    started = time.perf_counter()
    paths = (Path(first), Path(second))
    names = (paths[0].name, paths[1].name) if names is None else names
    facts = [(limits or Limits()).check(p, n) for p, n in zip(paths, names, strict=True)]
    longest = max(f.seconds for f in facts)
    stride = max(round(longest * recognizer.spec.fps / _MAX_ROWS), 4)
    preset = replace(FEATURE_PRESETS["quovadis"], stride=stride)
    extractor = FeatureExtractor(recognizer.models, preset, device=recognizer.device, flow=recognizer.flow)
    tracks = [
        _track(extractor, path, name, lambda share, what, i=i: on_progress((i + share) / 2, what))  # type: ignore[misc]
        for i, (path, name) in enumerate(zip(paths, names, strict=True))
    ]
    kinds = tuple(extractor.models)
    cosines = [_unit(tracks[0].features[k]) @ _unit(tracks[1].features[k]).T for k in kinds]
    means = [
        float(F.cosine_similarity(tracks[0].features[k].mean((0, 1)), tracks[1].features[k].mean((0, 1)), dim=0))
        for k in kinds
    ]
    return FeatureComparison(
        videos=names,
        streams=kinds,
        center_seconds=(tracks[0].center_seconds, tracks[1].center_seconds),
        similarity=torch.stack(cosines).mean(0),
        mean_similarity=sum(means) / len(means),
        window_seconds=extractor.window / recognizer.spec.fps,
        work_seconds=time.perf_counter() - started,
    )


PLAYABLE = {"h264", "vp8", "vp9", "av1"}
"""Codecs that browsers play, in MP4 and WebM, with 8 bits and colors at half the resolution."""


def plays_in_browsers(facts: VideoFacts) -> bool:
    """True where every current browser shows the file as it is."""
    container = any(name in facts.container.split(",") for name in ("mp4", "webm"))
    return container and facts.codec in PLAYABLE and facts.pixel_format in ("yuv420p", "yuvj420p")


def write_preview(path: str | Path, target: Path, facts: VideoFacts, on_progress: Report) -> Path:
    """A small copy that browsers play, at 25 frames a second, of a video that they do not.

    Args:
        path: the video.
        target: the MP4 file to write.
        facts: of the video.
        on_progress: see :data:`Report`.
    """
    shrink = partial(resize_frames, short_side_px=min(_PREVIEW_PX, facts.width, facts.height))
    expected = max(facts.seconds * 25, 1)
    with VideoReader(path) as reader:

        def frames() -> Iterator[Tensor]:
            for tick, frame in reader.resampled_frames(25.0):
                if tick % 50 == 0:
                    on_progress(min(tick / expected, 1.0), "making a copy that plays here")
                yield shrink(frame.pixels[None])[0]

        return write_video(target, frames(), fps=25, options={"preset": "ultrafast", "crf": "28"})


def _track(extractor: FeatureExtractor, path: Path, name: str, on_progress: Report) -> FeatureRows:
    """All features of a clip; says how far it is."""
    batches, done = [], 0
    with called(path, name):
        with VideoReader(path) as reader:
            expected = max(extractor.num_rows(extractor.count_frames(reader)), 1)
        for rows in extractor.rows(path):
            batches.append(rows)
            done += len(rows)
            on_progress(min(done / expected, 1.0), f"features of {name}, row {done} of {max(expected, done)}")
    if not batches:
        raise InvalidInputError(f"{name} shows no frame")
    features = {kind: torch.cat([b.features[kind] for b in batches]) for kind in extractor.models}
    times = [[t for b in batches for t in getattr(b, f"{what}_seconds")] for what in ("start", "center", "stop")]
    return FeatureRows(features, *times)


def _unit(features: Tensor) -> Tensor:
    """float32 (rows, crops, D) to rows of length one, (rows, D)."""
    return F.normalize(features.mean(1), dim=1)


def _best_labels(timeline: Timeline) -> list[tuple[float, float, str]]:
    """The most probable class of each stretch of time."""
    labels, best = timeline.prediction.labels, timeline.probabilities.argmax(1).tolist()
    return [(start, stop, labels[i]) for (start, stop), i in zip(timeline.cells(), best, strict=True)]


def _label_at(seconds: float, track: list[tuple[float, float, str]]) -> str:
    """The class at a moment; behind the last stretch that of the last."""
    return next((label for _, stop, label in track if seconds < stop), track[-1][2])
