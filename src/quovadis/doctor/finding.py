"""Results of checks."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "missing", "broken"]
"""missing: an optional dependency is not available. broken: something essential does not work."""


@dataclass(frozen=True)
class Finding:
    """Result of a check.

    >>> Finding("parts", "opencv", "missing", "not installed", "pip install '.[opencv]'").is_fatal
    False
    """

    area: str
    name: str
    status: Status
    found: str
    remedy: str = ""
    """Command or advice that fixes the problem; empty if there is none."""

    @property
    def is_fatal(self) -> bool:
        """Whether quovadis does not work because of this problem."""
        return self.status == "broken"
