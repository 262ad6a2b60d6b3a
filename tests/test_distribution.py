"""Contents of the wheel and the source archive. ``make smoke`` installs them."""

import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from quovadis.version import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if find_spec("hatchling") is None:
        pytest.skip("needs hatchling")
    from hatchling import build

    place = tmp_path_factory.mktemp("dist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return place / build.build_wheel(str(place)), place / build.build_sdist(str(place))


def test_wheel_contains_the_package_only(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        metadata = Parser().parsestr(wheel.read(f"quovadis-{__version__}.dist-info/METADATA").decode())
    source = ROOT / "src"
    files = {str(f.relative_to(source)) for f in source.rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    assert {n for n in names if not n.startswith(f"quovadis-{__version__}.dist-info/")} == files
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert set(metadata.get_all("Provides-Extra") or []) == set(PROJECT["optional-dependencies"])
    needed = [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert set(map(Requirement, needed)) == set(map(Requirement, PROJECT["dependencies"]))
    assert set(metadata.get_all("License-File") or []) == {"LICENSE", "NOTICE.md"}


def test_source_archive_contains_the_files_needed_by_tests(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = (
        "Makefile",
        "conftest.py",
        "constraints.txt",
        "mkdocs.yml",
        "docs/index.md",
        "tests/smoke.py",
        "README.md",
    )
    assert {name for name in wanted if name not in names} == set()
    assert not any(name.startswith(("runs/", "build/", "dist/", ".venv/")) for name in names)


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"]
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "authors", "message"} <= set(citation)


def test_ci_tests_the_declared_python_versions() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    named = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if c.startswith("Programming Language :: Python ::")}
    assert set(jobs["test"]["strategy"]["matrix"]["python"]) == named
    targets = {line.partition(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ":" in line}
    for job in jobs.values():
        for step in job["steps"]:
            command, *names = step.get("run", "").split() or [""]
            assert command != "make" or targets.issuperset(names)
