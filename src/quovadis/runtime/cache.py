"""The cache folder, for files that can be downloaded or computed again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: ``$QUOVADIS_CACHE``, or ``quovadis`` in the platform's cache folder of the user.

    On Linux that is ``$XDG_CACHE_HOME``, or ``~/.cache`` if the variable is unset, empty or relative.

    >>> cache_folder().is_absolute()
    True
    """
    if configured := os.environ.get("QUOVADIS_CACHE"):
        return Path(configured).expanduser().absolute()
    from platformdirs import user_cache_path

    folder = user_cache_path("quovadis", appauthor=False)
    return folder if folder.is_absolute() else Path("~/.cache/quovadis").expanduser()
