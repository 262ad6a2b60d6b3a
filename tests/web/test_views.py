"""Names from users and networks are escaped in the HTML of the page."""

import base64
import csv
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.web import views
from quovadis.web.analysis import compare_features, recognize, sample_flow
from quovadis.web.results import BatchRow, Comparison, Recognition
from tests.synthetic import awake

EVIL = "<script>alert('x')</script>\"'&amp; onload=y"

ATTRIBUTES = {
    *("class", "style", "role", "type", "title", "alt", "src"),
    *("href", "download", "tabindex", "points", "viewbox", "preserveaspectratio"),
    *("x1", "x2", "y1", "y2", "controls", "playsinline", "muted", "preload"),
    *("hidden", "open", "value", "width", "height", "colspan"),
}


class Page(HTMLParser):
    """Collects the elements, attributes and text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer([awake(build_model("i3d_tiny", num_classes=2))], [EVIL, f"{EVIL} too"], device="cpu")


@pytest.fixture(scope="module")
def result(recognizer: Recognizer, clip: Path) -> Recognition:
    result = recognize(recognizer, clip, name=EVIL)
    return replace(result, overall=replace(result.overall, model=EVIL, flow_method=EVIL))


def test_names_are_escaped(result: Recognition, recognizer: Recognizer, clip: Path) -> None:
    both = Comparison(result, result)
    pages = [
        views.header([EVIL], 200, 600),
        views.player(f"/tmp/{EVIL}", EVIL, result.overall.info, "recognize"),
        views.progress(0.5, EVIL),
        views.error(EVIL),
        views.invitation([EVIL]),
        views.prediction(result.overall),
        views.prediction(result.overall, "recognize"),
        views.timeline(result, "recognize"),
        views.flow_frames(replace(sample_flow(recognizer, clip), method=EVIL), "recognize"),
        views.batch([BatchRow(EVIL, result.overall), BatchRow("v", error=EVIL)], 2),
        views.comparison(both),
        views.timelines(both, "compare"),
        views.features(compare_features(recognizer, clip, clip, names=(EVIL, EVIL))),
    ]
    for html in pages:
        page = Page(html)
        assert page.open == []
        assert "script" not in page.tags
        assert {a for a in page.attributes if not a.startswith(("data-", "aria-"))} <= ATTRIBUTES
        assert EVIL in page.text
        assert "http" not in html.replace("data:", "")


def test_segments_cover_the_timeline(result: Recognition) -> None:
    html = views.timeline(result, "recognize")
    assert "data-start='0.000' data-stop='2.000'" in html
    widths = [float(part.split("%")[0]) for part in html.split(";width:")[1:]]
    assert sum(widths) == pytest.approx(100, abs=0.01)
    assert Page(html).tags.count("polyline") == 2


def test_uncertain_segments_are_pale(result: Recognition, monkeypatch: pytest.MonkeyPatch) -> None:
    probability = min(segment.probability for segment in result.timeline.segments())
    for limit, is_pale in ((probability, False), (probability + 0.01, True)):
        monkeypatch.setattr(views, "MIN_CONFIDENCE", limit)
        html = views.timeline(result, "recognize")
        assert ("class='qv-faint'" in html) == is_pale
        assert ("Segments below 50 % are pale" in html) == is_pale


def test_windows_of_prediction_and_timeline_are_described(result: Recognition) -> None:
    assert "Whole video in windows of 0.64 s, " in views.prediction(result.overall)
    assert "Timeline in windows of 0.64 s every 0.32 s." in views.timeline(result, "recognize")


def test_activation_maps_are_offered_for_the_player_and_the_most_probable_classes(result: Recognition) -> None:
    html = views.prediction(result.overall, "recognize")
    assert html.count("<option") == html.count("data:image/png") == 2
    assert html.index("qv-bars") < html.index("qv-maps")
    assert "qv-maps" not in views.prediction(result.overall)
    assert "qv-maps" not in views.prediction(replace(result.overall, maps=None), "recognize")


def test_image_of_maps_contains_all_time_steps_in_reading_order(result: Recognition) -> None:
    maps = replace(result.overall.maps, labels=("run",), maps=torch.arange(5.0).view(1, 5, 1, 1).expand(1, 5, 2, 3))
    html = views.prediction(replace(result.overall, maps=maps), "recognize")
    assert "data-columns='3' data-cell='3 2'" in html
    data = base64.b64decode(html.split("data:image/png;base64,")[1].split("'")[0])
    opacity = np.asarray(Image.open(io.BytesIO(data)))[..., 3]
    assert opacity.shape == (4, 9)
    assert opacity[::2, ::3].flatten().tolist() == [0, 41, 83, 124, 166, 0]


def test_segments_are_listed_with_time_class_and_probability(result: Recognition) -> None:
    html = views.timeline(result, "recognize")
    segment = result.timeline.segments()[0]
    entry = html.split("<ol data-player='recognize'>")[1].split("</li>")[0]
    assert f"data-seek='{segment.start_seconds:.3f}'" in entry
    assert f"{segment.probability:.0%}" in entry
    assert html.index("qv-segments") < html.index("qv-files")


def test_calibration_is_stated(result: Recognition) -> None:
    assert "Probabilities are not calibrated." in views.prediction(result.overall)
    assert "Probabilities are scaled." in views.prediction(replace(result.overall, calibration="scaled"))


def test_similarity_has_a_yardstick_and_no_matrix_of_one_cell(recognizer: Recognizer, clip: Path) -> None:
    found = compare_features(recognizer, clip, clip, names=("a", "b"))
    html = views.features(found)
    assert html.count("with itself") == 2
    assert f"{found.self_similarity[0]:.3f}" in html
    assert html.count("qv-matrix") == 1
    one = replace(found, similarity=found.similarity[:1, :1], self_similarity=(None, None))
    assert "qv-matrix" not in views.features(one)
    assert "data:image" not in views.features(one)
    assert "with itself to compare" in views.features(one)


def test_table_of_a_batch_has_a_row_per_video(result: Recognition) -> None:
    label, probability = result.overall.prediction.top(1)[0]
    rows = [BatchRow("a, b.mp4", result.overall), BatchRow("bad.mp4", error="not a video")]
    assert Page(views.batch(rows, 3)).tags.count("tr") == 3
    assert "2 of 3 videos" in views.batch(rows, 3)
    first, second = csv.DictReader(io.StringIO(views.batch_csv(rows)))
    assert (first["video"], first["label_1"], first["error"]) == ("a, b.mp4", label, "")
    assert float(first["probability_1"]) == pytest.approx(probability, abs=1e-4)
    assert float(first["seconds"]) == 2.0
    assert (second["video"], second["label_1"], second["error"]) == ("bad.mp4", "", "not a video")
