"""How to install the optional parts of quovadis, by the way in which it is installed itself."""

import shlex
from pathlib import Path
from typing import Any

from quovadis.errors import MissingExtraError

_CHECKOUT = Path(__file__).parents[3]


def install_command(extra: str) -> str:
    """Return the command that adds an optional part to this installation.

    The package is installed from a checkout or an archive, which pip records in ``direct_url.json`` (PEP 610). The
    command names the same source again, so that the version stays.

    Args:
        extra: The name of the optional part, such as ``"web"``.

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
    """Return the error for a missing optional part, with the command that installs it.

    Args:
        purpose: What needs it, in the plural, for example ``"TensorBoard logs"``.
        extra: The name of the optional part.

    Example:
        >>> print(missing_extra("TensorBoard logs", "tensorboard"))
        TensorBoard logs need an optional part: pip install ...
    """
    return MissingExtraError(f"{purpose} need an optional part: {install_command(extra)}")


def _command(requirement: str, *, editable: bool = False) -> str:
    return f"pip install {'-e ' if editable else ''}{shlex.quote(requirement)}"


def _origin() -> dict[str, Any]:
    """What pip recorded about the source of this installation; empty where it is not known."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = json.loads(distribution("quovadis").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _local_path(url: str) -> Path | None:
    """The path of a ``file:`` URL; None for any other."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
