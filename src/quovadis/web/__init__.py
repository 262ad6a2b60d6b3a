"""The web demo of ``quovadis serve`` and its HTTP API.

Start it from the command line.

Example::

    quovadis serve --weights runs/mine
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.web.examples import Example as Example
    from quovadis.web.handlers import Handlers as Handlers
    from quovadis.web.limits import Limits as Limits
    from quovadis.web.models import ModelRegistry as ModelRegistry
    from quovadis.web.page import build_page as build_page
    from quovadis.web.page import serve_page as serve_page

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "examples": ["Example"],
        "handlers": ["Handlers"],
        "limits": ["Limits"],
        "models": ["ModelRegistry"],
        "page": ["build_page", "serve_page"],
    },
)
