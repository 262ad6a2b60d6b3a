"""The documentation builds without warnings, loads nothing from other hosts, and matches the program."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from quovadis.cli import COMMANDS
from tests.test_public import PUBLIC

ROOT = Path(__file__).parent.parent.parent


class Requests(HTMLParser):
    """The resources that a browser loads with a page: scripts, styles, images."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.found.append(values.get("src") or "")
        if tag == "link" and values.get("rel") in ("stylesheet", "preconnect", "icon", "preload"):
            self.found.append(values.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings"):
        if find_spec(name) is None:
            pytest.skip("needs the extra docs: pip install -e '.[docs]'")
    place = tmp_path_factory.mktemp("site")
    # A new process, as it leaves millions of objects behind.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return place


@pytest.mark.slow
def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        requests = Requests()
        requests.feed(page.read_text())
        assert not [url for url in requests.found if re.match(r"(https?:)?//", url)], page


@pytest.mark.slow
def test_reference_matches_the_program(site: Path) -> None:
    text = (site / "reference" / "cli" / "index.html").read_text()
    assert all(f"usage: quovadis {name} " in text for name in COMMANDS if name != "train")
    assert "usage: quovadis train RECIPE" in text
    assert "``" not in text  # a terminal shows markup as it is
    for option in ("--folds", "--optimizer.learning-rate", "--source", "--page", "--from", "--keep-card"):
        assert option in text  # of a command with subcommands
    python = (site / "reference" / "python" / "index.html").read_text()
    assert "read_clip" in python
    assert "12361557" in python  # what an example prints


@pytest.mark.slow
def test_options_in_the_text_exist(site: Path) -> None:
    """Code blocks are run or parsed by other tests; this one checks options in sentences and tables."""
    option = r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z]"
    known = set(re.findall(option, (site / "reference" / "cli" / "index.html").read_text()))
    assert len(known) > 200
    unknown = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for code in re.findall(r"`([^`\n]+)`", page.read_text()):
            unknown |= {f"{page.name}: {name}" for name in re.findall(option, code) if name not in known}
    assert unknown == {"deploy.md: --read-only", "deploy.md: --tmpfs"}  # of docker


def test_every_image_is_used() -> None:
    pages = "".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    images = sorted((ROOT / "docs" / "images").iterdir())
    assert len(images) > 5
    assert [image.name for image in images if f"images/{image.name}" not in pages] == []


def test_every_public_package_has_a_reference_page() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert {f"{{{{ package {name} }}}}" for name in PUBLIC} <= set(pages.splitlines())
    assert "::: quovadis.errors" in pages


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    text = "".join(page.read_text() for page in (site / "reference").rglob("*.html"))
    missing = [f"{p}.{n}" for p, names in PUBLIC.items() for n in names if f'id="{p}.{n}"' not in text]
    assert missing == ["quovadis.__version__"]


def test_examples_in_docstrings_become_code(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("griffe") is None:
        pytest.skip("needs the extra docs: pip install -e '.[docs]'")
    monkeypatch.syspath_prepend(ROOT / "docs" / "tools")
    from docstrings import to_markdown  # type: ignore[import-not-found]

    docstring = "Adds.\n\n>>> 1 + 1\n2\n\nMore.\n\n>>> x = [\n...     1]\n>>> x\n[1]"
    expected = "Adds.\n\n```python\n>>> 1 + 1\n2\n```\n\nMore.\n\n```python\n>>> x = [\n...     1]\n>>> x\n[1]\n```"
    assert to_markdown(docstring) == expected
    assert to_markdown("Adds.\n\nExample:\n    >>> 1 + 1\n    2\nMore.") == (
        "Adds.\n\nExample:\n    ```python\n    >>> 1 + 1\n    2\n    ```\nMore."
    )
    assert to_markdown('>>> probe(getfixture("clip_path"))') == '```python\n>>> probe(Path("video.mp4"))\n```'
    assert (
        to_markdown("See :func:`quovadis.read_clip` and :class:`~quovadis.video.Clip`.")
        == "See `quovadis.read_clip` and `Clip`."
    )


@pytest.mark.slow
@pytest.mark.pretrained
@pytest.mark.parametrize("script", sorted((ROOT / "docs" / "tutorials").glob("*.py")), ids=lambda script: script.stem)
def test_tutorials_have_run(script: Path, site: Path, pretrained: Path) -> None:
    page = (site / "tutorials" / script.stem / "index.html").read_text()
    assert "did not run to its end" not in page
    code_and_commands = script.read_text().count("\n# %%\n") + script.read_text().count("```bash\n")
    assert page.count('<div class="highlight"') >= code_and_commands + 2  # and what at least two cells print
    pictures = re.findall(r'<img alt="[^"]*" src="([^":/]+\.png)"', page)
    assert (script.stem == "paper_protocol") == (not pictures)
    assert all((site / "tutorials" / script.stem / name).is_file() for name in pictures)


@pytest.mark.slow
def test_the_table_of_networks_is_computed(site: Path) -> None:
    """The parameters are those of Table 1 of the paper; 222 GFLOP a clip are in the results of the benchmarks."""
    text = (site / "models" / "index.html").read_text()
    row = re.search(r"<td><code>i3d</code></td>\s*<td>rgb</td>(.*?)</tr>", text, re.S)
    assert row is not None
    assert re.findall(r">([\d.]+)</td>", row[1]) == ["12.7", "111.2", "1024"]
    assert "{{" not in text


def test_listed_error_messages_exist() -> None:
    table = (ROOT / "docs" / "faq.md").read_text().partition("## Error messages")[2]
    listed = re.findall(r"^\| `(.+?)` \|", table, re.M)
    assert len(listed) > 10
    source = "".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)  # texts that continue on the next line
    assert [text for text in listed if text not in joined] == []
