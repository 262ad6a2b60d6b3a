"""Jinja2 templates with escaping of markup and control characters."""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quovadis.runtime.plain_text import escape


def render(package: str, template: str, **values: Any) -> str:
    """Render a template of a package.

    Args:
        package: Dotted name of the package that contains the folder ``templates``.
        template: File name in that folder.
        values: Variables of the template. They are escaped with :func:`quovadis.runtime.plain_text.escape` unless the
            template marks them as ``safe`` HTML.
    """
    return _environment(package).get_template(template).render(**values)


@lru_cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=_escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    return environment


def _escape(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def _percent(fraction: float, digits: int = 1) -> str:
    return f"{fraction:.{digits}%}"
