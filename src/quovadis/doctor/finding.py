"""One thing that the doctor looked at."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "missing", "broken"]
"""missing: an optional part is not there. broken: something that quovadis cannot do without does not work."""


@dataclass(frozen=True)
class Finding:
    """What was found, and how to mend it.

    >>> Finding("parts", "opencv", "missing", "not installed", "pip install '.[opencv]'").is_fatal
    False
    """

    area: str
    name: str
    status: Status
    found: str
    remedy: str = ""
    """A command or an advice; empty where nothing is wrong."""

    @property
    def is_fatal(self) -> bool:
        """Whether quovadis cannot work as it is."""
        return self.status == "broken"
