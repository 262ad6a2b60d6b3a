"""Names from users and networks are escaped in the HTML of the page."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.web import views
from quovadis.web.analysis import compare_features, recognize
from quovadis.web.results import Comparison, Recognition
from tests.synthetic import awake

EVIL = "<script>alert('x')</script>\"'&amp; onload=y"

ATTRIBUTES = {
    *("class", "style", "role", "type", "title", "alt", "src"),
    *("href", "download", "tabindex", "points", "viewbox", "preserveaspectratio"),
    *("x1", "x2", "y1", "y2", "controls", "playsinline", "muted", "preload"),
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
        if tag != "img":
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
        views.prediction(result.overall),
        views.recognition(result),
        views.timeline(result, "recognize"),
        views.flow_frames(result, "recognize"),
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


def test_windows_of_prediction_and_timeline_are_described(result: Recognition) -> None:
    assert "Whole video in windows of 0.64 s, " in views.prediction(result.overall)
    assert "Timeline in windows of 0.64 s every 0.32 s." in views.timeline(result, "recognize")


def test_evidence_is_between_classes_and_downloads(result: Recognition) -> None:
    html = views.recognition(result)
    assert html.index("qv-bars") < html.index("Evidence for ") < html.index("qv-files")
    assert html.count("alt='evidence at ") == 8
    assert "Evidence for " not in views.recognition(replace(result, evidence=None))
