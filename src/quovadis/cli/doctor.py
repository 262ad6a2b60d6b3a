"""``quovadis doctor``: what works on this machine, and how to mend what does not."""

import json
import sys
from dataclasses import asdict, dataclass

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Doctor:
    """Say what works on this machine and what does not, with the command that mends it.

    Looks at versions, processor, memory, GPUs, decoders, optional parts, the cache and the disk, and lets the machine
    calculate: a small network, a small flow, a small video. The exit code is 1 where something essential is broken.
    """

    json: bool = False
    """Print JSON, to be put into a report of a problem."""


def main(args: list[str]) -> None:
    """Run the verb."""
    options = tyro.cli(Doctor, args=args, prog="quovadis doctor", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.doctor.examine import examine

    findings = list(examine())
    broken = [f for f in findings if f.is_fatal]
    if options.json:
        print(json.dumps({"healthy": not broken, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        from quovadis.report.terminal import findings_table
        from quovadis.runtime.console import Console

        rows = [(f.area, f.name, f.status, f.found, f.remedy) for f in findings]
        Console(soft_wrap=True).print(findings_table(rows))
        missing = sum(f.status == "missing" for f in findings)
        print(f"\n{len(broken)} broken, {missing} optional not there, {len(findings) - len(broken) - missing} well")
    if broken:
        sys.exit(1)
