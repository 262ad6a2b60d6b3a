"""``quovadis doctor``: check the installation."""

import json
import sys
from dataclasses import asdict, dataclass

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Doctor:
    """Check the installation, and print the command that fixes each problem.

    Checks versions, processor, memory, GPUs, decoders, optional dependencies, cache folder and disk space, and the
    results of a small network, optical flow and video. The exit code is 1 if something essential is broken.
    """

    json: bool = False
    """Print JSON, for bug reports."""


def main(args: list[str]) -> None:
    """Run the command."""
    options = tyro.cli(Doctor, args=args, prog="quovadis doctor", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.runtime.progress import working

    with working("checking the installation"):
        from quovadis.doctor.checks import examine

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
        print(f"\n{len(broken)} broken, {missing} optional missing, {len(findings) - len(broken) - missing} ok")
    if broken:
        sys.exit(1)
