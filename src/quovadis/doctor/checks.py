"""Run all checks of ``quovadis doctor``."""

from collections.abc import Callable, Iterable, Iterator

from quovadis.doctor import arithmetic, machine, parts
from quovadis.doctor.finding import Finding


def examine() -> Iterator[Finding]:
    """Run all checks and yield their findings. A check that raises an exception gives a finding, too.

    >>> found = next(examine())
    >>> found.area, found.name, found.status
    ('versions', 'quovadis', 'ok')
    """
    checks: list[tuple[str, Callable[[], Finding | Iterable[Finding]]]] = [
        ("versions", machine.versions),
        ("machine", machine.processors),
        ("machine", machine.threads),
        ("machine", machine.memory),
        ("machine", machine.gpus),
        ("machine", machine.cache),
        ("decoders", parts.ffmpeg),
        ("decoders", parts.decoders),
        ("parts", parts.extras),
        ("parts", parts.triton),
        ("arithmetic", arithmetic.networks),
        ("arithmetic", arithmetic.bf16_training),
        ("arithmetic", arithmetic.flow),
        ("arithmetic", arithmetic.decoding),
    ]
    for area, check in checks:
        try:
            found = check()
            yield from [found] if isinstance(found, Finding) else found
        except Exception as error:  # the other checks still run
            name = check.__name__.replace("_", " ")
            yield Finding(
                area, name, "broken", f"the check failed: {error!r}", "report this error with the output of --json"
            )
