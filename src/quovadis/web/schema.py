"""The JSON that the page gives to take away, and that its HTTP API answers with.

Three endpoints of Gradio's HTTP API carry it; each takes files that were uploaded, and answers with one object:

- ``/recognize`` (video, model) -> :class:`RecognitionJson`
- ``/compare`` (video, first, second) -> :class:`ComparisonJson`
- ``/features`` (first, second, model) -> :class:`FeaturesJson`

``model``, ``first`` and ``second`` are names of networks as the page lists them: ``rgb``, ``flow``, ``rgb+flow``,
``compare:rgb`` ...; an empty one is the page's own choice. From Python::

    from gradio_client import Client, handle_file

    client = Client("http://127.0.0.1:7860")
    answer = client.predict(handle_file("clip.mp4"), "", api_name="/recognize")
    print(answer["top"][0]["label"])

With nothing but curl: ``POST /gradio_api/upload`` the file as form field ``files``, which answers with its path;
``POST /gradio_api/call/recognize`` ``{"data": [{"path": PATH, "meta": {"_type": "gradio.FileData"}}, ""]}``, which
answers with an ``event_id``; ``GET /gradio_api/call/recognize/EVENT_ID`` gives ``event: complete`` with the object in a
list, or ``event: error`` with a message in words. Any number of ``event: generating`` come before, with the progress:
``[{"progress": 0.5, "doing": "window 3 of about 6"}]``. Closing that connection cancels the work. One request is worked
on at a time, the others wait in line; when the line is full the answer says so.
``quovadis serve --schema`` prints all this as JSON Schema.

Times are seconds on the clock of the file, probabilities lie in [0, 1].
"""

from __future__ import annotations

from typing import Any

# That of the standard library cannot be turned into JSON Schema before Python 3.12; PyTorch brings this one.
from typing_extensions import TypedDict

from quovadis.inference.timeline import Timeline
from quovadis.web.analysis import Comparison, FeatureComparison, Recognition


class ClassJson(TypedDict):
    """A class and how probable it is."""

    label: str
    probability: float


class WindowJson(TypedDict):
    """What was seen in one window."""

    start_seconds: float
    stop_seconds: float
    top: list[ClassJson]


class SegmentJson(TypedDict):
    """Neighboring windows of one class, joined."""

    start_seconds: float
    stop_seconds: float
    label: str
    probability: float
    """Mean over the windows."""


class VideoJson(TypedDict):
    """The file."""

    name: str
    width: int
    height: int
    num_frames: int
    seconds: float
    codec: str


class TimelineJson(TypedDict):
    """What happens when: shorter windows, which overlap."""

    window_seconds: float
    stride_seconds: float
    segments: list[SegmentJson]
    windows: list[WindowJson]


class RecognitionJson(TypedDict):
    """The answer of one model for one video."""

    schema: str
    """``quovadis.recognition/2``; the number grows when something here changes its meaning."""
    video: VideoJson
    model: str
    flow_method: str
    window_seconds: float
    """Of the windows behind ``top``: the model's test footprint, as in ``quovadis predict``."""
    stride_seconds: float
    top: list[ClassJson]
    """Of the whole video: the mean of the logits of the windows; the most probable first, ten at most."""
    timeline: TimelineJson
    notes: list[str]
    """What a reader should know: the video was looped, it ends early ..."""
    work_seconds: float


class ComparisonJson(TypedDict):
    """What two models say about one video."""

    schema: str
    first: RecognitionJson
    second: RecognitionJson
    agreement: float
    """Share of the time in which both name the same class."""


class FeaturesJson(TypedDict):
    """How alike two clips are to a network."""

    schema: str
    videos: list[str]
    streams: list[str]
    window_seconds: float
    first_center_seconds: list[float]
    second_center_seconds: list[float]
    similarity: list[list[float]]
    """Cosine of the features of each moment of the first clip (rows) and of the second (columns), in [-1, 1]."""
    mean_similarity: float
    """Cosine of the mean features."""
    work_seconds: float


_TOP, _WINDOW_TOP = 10, 5


def recognition_json(found: Recognition) -> RecognitionJson:
    """The JSON of a recognition."""
    answer, facts = found.answer, found.answer.facts
    prediction = answer.prediction
    return {
        "schema": "quovadis.recognition/2",
        "video": {
            "name": answer.video,
            "width": facts.width,
            "height": facts.height,
            "num_frames": facts.num_frames,
            "seconds": round(facts.seconds, 3),
            "codec": facts.codec,
        },
        "model": answer.model,
        "flow_method": answer.flow_method,
        "window_seconds": prediction.window_seconds or 0.0,
        "stride_seconds": prediction.stride_seconds or 0.0,
        "top": _classes(prediction.top(_TOP)),
        "timeline": _timeline_json(found.timeline),
        "notes": list(prediction.notes),
        "work_seconds": round(found.work_seconds, 3),
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
                "top": _classes(prediction.top(_WINDOW_TOP, w)),
            }
            for w in prediction.windows
        ],
    }


def comparison_json(found: Comparison) -> ComparisonJson:
    """The JSON of a comparison."""
    return {
        "schema": "quovadis.comparison/2",
        "first": recognition_json(found.first),
        "second": recognition_json(found.second),
        "agreement": found.agreement,
    }


def features_json(found: FeatureComparison) -> FeaturesJson:
    """The JSON of a comparison of features."""
    first, second = found.center_seconds
    return {
        "schema": "quovadis.features/1",
        "videos": list(found.videos),
        "streams": list(found.streams),
        "window_seconds": found.window_seconds,
        "first_center_seconds": [round(t, 3) for t in first],
        "second_center_seconds": [round(t, 3) for t in second],
        "similarity": [[round(value, 4) for value in row] for row in found.similarity.tolist()],
        "mean_similarity": found.mean_similarity,
        "work_seconds": round(found.work_seconds, 3),
    }


def json_schema() -> dict[str, Any]:
    """JSON Schema of what each endpoint answers with, by endpoint; needs the extra ``web`` for pydantic."""
    from pydantic import TypeAdapter

    answers = {"/recognize": RecognitionJson, "/compare": ComparisonJson, "/features": FeaturesJson}
    return {endpoint: TypeAdapter(answer).json_schema() for endpoint, answer in answers.items()}


def _classes(top: list[tuple[str, float]]) -> list[ClassJson]:
    return [{"label": label, "probability": probability} for label, probability in top]
