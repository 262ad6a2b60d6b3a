"""All checks in order."""

from collections.abc import Callable, Iterable, Iterator

from quovadis.doctor import arithmetic, machine, parts
from quovadis.doctor.finding import Finding


def examine() -> Iterator[Finding]:
    """Everything that the doctor looks at, as it is found; a check that fails to run is a finding too.

    >>> found = next(examine())
    >>> found.area, found.name, found.status
    ('versions', 'quovadis', 'ok')
    """
    checks: list[tuple[str, Callable[[], Finding | Iterable[Finding]]]] = [
        ("versions", machine.versions),
        ("machine", machine.processors),
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
        except Exception as error:  # whatever is wrong with a machine, the other checks go on
            name = check.__name__.replace("_", " ")
            yield Finding(area, name, "broken", f"the check failed: {error!r}", "report it with the output of --json")
