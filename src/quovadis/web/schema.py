"""JSON of the HTTP API and of the downloads of the web demo.

The API has three endpoints of Gradio. Each takes uploaded files and returns one object:

- ``/recognize`` (video, model) -> :class:`RecognitionJson`
- ``/compare`` (video, first, second) -> :class:`ComparisonJson`
- ``/features`` (first, second, model) -> :class:`FeaturesJson`

``model`` (of ``/compare``: ``first`` and ``second``) are model names as listed on the page: ``rgb``, ``flow``,
``rgb+flow``, ``compare:rgb``; an empty string selects the default. From Python::

    from gradio_client import Client, handle_file

    client = Client("http://127.0.0.1:7860")
    result = client.predict(handle_file("clip.mp4"), "", api_name="/recognize")
    print(result["top"][0]["label"])

With curl:

1. ``POST /gradio_api/upload`` with the file in the form field ``files`` returns its path on the server.
2. ``POST /gradio_api/call/recognize`` with ``{"data": [{"path": PATH, "meta": {"_type": "gradio.FileData"}}, ""]}``
   returns an ``event_id``.
3. ``GET /gradio_api/call/recognize/EVENT_ID`` streams ``event: generating`` with the progress, such as
   ``[{"progress": 0.5, "doing": "window 3"}]``, and then ``event: complete`` with the object in a list, or
   ``event: error`` with a message. Closing this connection cancels the job.

The server runs one job at a time and queues the others. If the queue is full, the request fails with a message.
``quovadis serve --schema`` prints the JSON Schema of the results.

Times are seconds on the clock of the file. Probabilities are in [0, 1].
"""

from __future__ import annotations

from typing import Any

# pydantic does not support typing.TypedDict before Python 3.12. PyTorch depends on typing_extensions.
from typing_extensions import TypedDict

from quovadis.inference.timeline import Timeline
from quovadis.web.results import Comparison, FeatureComparison, Recognition


class ClassJson(TypedDict):
    """A class and its probability."""

    label: str
    probability: float


class WindowJson(TypedDict):
    """The prediction for one window."""

    start_seconds: float
    stop_seconds: float
    top: list[ClassJson]


class SegmentJson(TypedDict):
    """Consecutive windows with the same most probable class."""

    start_seconds: float
    stop_seconds: float
    label: str
    probability: float
    """Mean over the windows of the segment."""


class VideoJson(TypedDict):
    """Properties of the video file."""

    name: str
    width: int
    height: int
    num_frames: int
    seconds: float
    codec: str


class TimelineJson(TypedDict):
    """Predictions over time, from shorter, overlapping windows."""

    window_seconds: float
    stride_seconds: float
    segments: list[SegmentJson]
    windows: list[WindowJson]


class RecognitionJson(TypedDict):
    """The prediction of one model for one video."""

    schema: str
    """``quovadis.recognition/2``; the number increases when the meaning of a field changes."""
    video: VideoJson
    model: str
    flow_method: str
    window_seconds: float
    """Length of the windows for ``top``: the test footprint of the model, as in ``quovadis predict``."""
    stride_seconds: float
    top: list[ClassJson]
    """At most ten classes of the whole video in descending order, from the mean logits of the windows."""
    timeline: TimelineJson
    notes: list[str]
    """Remarks on the prediction, for example that the video was looped or is truncated."""
    work_seconds: float


class ComparisonJson(TypedDict):
    """The predictions of two models for one video."""

    schema: str
    first: RecognitionJson
    second: RecognitionJson
    agreement: float
    """Fraction of the time in which both predict the same class."""


class FeaturesJson(TypedDict):
    """Similarities between the features of two clips."""

    schema: str
    videos: list[str]
    streams: list[str]
    window_seconds: float
    first_center_seconds: list[float]
    second_center_seconds: list[float]
    similarity: list[list[float]]
    """Cosine similarity of the features of each window of the first clip (rows) and the second (columns)."""
    mean_similarity: float
    """Cosine similarity of the mean features."""
    work_seconds: float


_NUM_TOP, _NUM_WINDOW_TOP = 10, 5


def recognition_json(result: Recognition) -> RecognitionJson:
    """Convert a recognition to JSON."""
    overall, info = result.overall, result.overall.info
    prediction = overall.prediction
    return {
        "schema": "quovadis.recognition/2",
        "video": {
            "name": overall.video,
            "width": info.width,
            "height": info.height,
            "num_frames": info.num_frames,
            "seconds": round(info.seconds, 3),
            "codec": info.codec,
        },
        "model": overall.model,
        "flow_method": overall.flow_method,
        "window_seconds": prediction.window_seconds or 0.0,
        "stride_seconds": prediction.stride_seconds or 0.0,
        "top": _classes(prediction.top(_NUM_TOP)),
        "timeline": _timeline_json(result.timeline),
        "notes": list(prediction.notes),
        "work_seconds": round(result.work_seconds, 3),
    }


def _timeline_json(timeline: Timeline) -> TimelineJson:
    prediction = timeline.prediction
    return {
        "window_seconds": prediction.window_seconds or 0.0,
        "stride_seconds": prediction.stride_seconds or 0.0,
        "segments": [
            {
                "start_seconds": round(s.start_seconds, 3),
                "stop_seconds": round(s.stop_seconds, 3),
                "label": s.label,
                "probability": s.probability,
            }
            for s in timeline.segments()
        ],
        "windows": [
            {
                "start_seconds": round(w.start_seconds, 3),
                "stop_seconds": round(w.stop_seconds, 3),
                "top": _classes(prediction.top(_NUM_WINDOW_TOP, w)),
            }
            for w in prediction.windows
        ],
    }


def comparison_json(result: Comparison) -> ComparisonJson:
    """Convert a comparison of models to JSON."""
    return {
        "schema": "quovadis.comparison/2",
        "first": recognition_json(result.first),
        "second": recognition_json(result.second),
        "agreement": result.agreement,
    }


def features_json(result: FeatureComparison) -> FeaturesJson:
    """Convert a comparison of features to JSON."""
    first, second = result.center_seconds
    return {
        "schema": "quovadis.features/1",
        "videos": list(result.videos),
        "streams": list(result.streams),
        "window_seconds": result.window_seconds,
        "first_center_seconds": [round(t, 3) for t in first],
        "second_center_seconds": [round(t, 3) for t in second],
        "similarity": [[round(value, 4) for value in row] for row in result.similarity.tolist()],
        "mean_similarity": result.mean_similarity,
        "work_seconds": round(result.work_seconds, 3),
    }


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the result of each endpoint; requires pydantic from the extra ``web``."""
    from pydantic import TypeAdapter

    results = {"/recognize": RecognitionJson, "/compare": ComparisonJson, "/features": FeaturesJson}
    return {endpoint: TypeAdapter(result).json_schema() for endpoint, result in results.items()}


def _classes(top: list[tuple[str, float]]) -> list[ClassJson]:
    return [{"label": label, "probability": probability} for label, probability in top]
