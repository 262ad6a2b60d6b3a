"""Whatever people and networks call things, it stays text."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.web import views
from quovadis.web.analysis import Comparison, Recognition, compare_features, recognize
from tests.synthetic import awake

EVIL = "<script>alert('x')</script>\"'&amp; onload=y"

ATTRIBUTES = {
    *("class", "style", "role", "type", "title", "alt", "src"),
    *("href", "download", "tabindex", "points", "viewbox", "preserveaspectratio"),
    *("x1", "x2", "y1", "y2", "controls", "playsinline", "muted", "preload"),
}


class Page(HTMLParser):
    """Which elements, attributes and words there are."""

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
def found(recognizer: Recognizer, clip: Path) -> Recognition:
    found = recognize(recognizer, clip, name=EVIL)
    return replace(found, answer=replace(found.answer, model=EVIL, flow_method=EVIL))


def test_names_stay_text(found: Recognition, recognizer: Recognizer, clip: Path) -> None:
    both = Comparison(found, found)
    pages = [
        views.header([EVIL], 200, 600),
        views.player(f"/tmp/{EVIL}", EVIL, found.answer.facts, "recognize"),
        views.progress(0.5, EVIL),
        views.error(EVIL),
        views.answer(found.answer),
        views.recognition(found),
        views.timeline(found, "recognize"),
        views.moments(found, "recognize"),
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


def test_the_time_line_covers_the_video(found: Recognition) -> None:
    html = views.timeline(found, "recognize")
    assert "data-start='0.000' data-stop='2.000'" in html
    widths = [float(part.split("%")[0]) for part in html.split(";width:")[1:]]
    assert sum(widths) == pytest.approx(100, abs=0.01)
    assert Page(html).tags.count("polyline") == 2


def test_both_kinds_of_windows_are_named(found: Recognition) -> None:
    assert "Whole video in windows of 0.64 s, " in views.answer(found.answer)
    assert "Timeline in windows of 0.64 s every 0.32 s." in views.timeline(found, "recognize")


def test_the_evidence_stands_below_the_classes(found: Recognition) -> None:
    html = views.recognition(found)
    assert html.index("qv-bars") < html.index("Evidence for ") < html.index("qv-files")
    assert html.count("alt='evidence at ") == 8
    assert "Evidence for " not in views.recognition(replace(found, evidence=None))
