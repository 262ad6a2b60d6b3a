"""Check the installation and the machine.

Example::

    for finding in examine():
        print(finding)
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.doctor.checks import examine as examine
    from quovadis.doctor.finding import Finding as Finding

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "checks": ["examine"],
        "finding": ["Finding"],
    },
)
