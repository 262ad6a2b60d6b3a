"""The folder for what can be fetched or computed again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Find the cache folder: ``$QUOVADIS_CACHE``, else ``quovadis`` in the user's cache folder of the platform.

    On Linux that is ``$XDG_CACHE_HOME``, or ``~/.cache`` where the variable is unset, empty or not absolute.

    >>> cache_folder().is_absolute()
    True
    """
    if own := os.environ.get("QUOVADIS_CACHE"):
        return Path(own).expanduser().absolute()
    from platformdirs import user_cache_path

    folder = user_cache_path("quovadis", appauthor=False)
    return folder if folder.is_absolute() else Path("~/.cache/quovadis").expanduser()
