"""Describe durations in words."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def describe_duration(seconds: float) -> str:
    """Describe a duration with one number of two digits and its unit.

    >>> [describe_duration(s) for s in (0.37, 37, 60, 800, 5400, 185_000, 500_000)]
    ['0.37 s', '37 s', '60 s', '13 minutes', '1.5 hours', '51 hours', '5.8 days']
    """
    if seconds < 99.5:
        return f"{seconds:.2g} s"
    if seconds < 1.5 * _HOUR:
        return f"{round(seconds / _MINUTE)} minutes"
    value, unit = (seconds / _HOUR, "hours") if seconds < 99.5 * _HOUR else (seconds / _DAY, "days")
    return f"{value:.1f} {unit}" if value < 9.95 else f"{round(value):,} {unit}"
