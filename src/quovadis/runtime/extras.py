"""Install commands for optional dependencies."""

import shlex
from pathlib import Path
from typing import Any

from quovadis.errors import MissingExtraError

_CHECKOUT = Path(__file__).parents[3]


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this installation.

    pip records in ``direct_url.json`` (PEP 610) whether the package was installed from a checkout, an archive or a
    repository. The command installs from the same source, so the version does not change.

    Args:
        extra: Name of the extra, such as ``"web"``.

    Example:
        >>> install_command("web").startswith("pip install ")
        True
    """
    origin = _origin()
    url = str(origin.get("url", ""))
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return _command(f"quovadis[{extra}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}")
    folder = _local_path(url)
    if folder is not None and folder.is_dir():
        return _command(f"{folder}[{extra}]", editable=bool(origin.get("dir_info", {}).get("editable")))
    if "archive_info" in origin and (folder is None or folder.is_file()):
        return _command(f"quovadis[{extra}] @ {url}")
    if (_CHECKOUT / "pyproject.toml").is_file():
        return _command(f"{_CHECKOUT}[{extra}]", editable=True)
    return f"{_command(f'.[{extra}]')}  (in the checkout of quovadis)"


def missing_extra(purpose: str, extra: str) -> MissingExtraError:
    """Create the error for a missing extra, with the command that installs it.

    Args:
        purpose: What needs the extra, in the plural, for example ``"TensorBoard logs"``.
        extra: Name of the extra.

    Example:
        >>> print(missing_extra("TensorBoard logs", "tensorboard"))
        TensorBoard logs need an optional part: pip install ...
    """
    return MissingExtraError(f"{purpose} need an optional part: {install_command(extra)}")


def _command(requirement: str, *, editable: bool = False) -> str:
    return f"pip install {'-e ' if editable else ''}{shlex.quote(requirement)}"


def _origin() -> dict[str, Any]:
    """Return what pip recorded about the source of this installation; empty if unknown."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = json.loads(distribution("quovadis").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _local_path(url: str) -> Path | None:
    """Return the path of a ``file:`` URL, or None for other URLs."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
