"""What videos were cut from, where the names of the files tell: those of Kinetics, UCF-101 and HMDB-51."""

import re
from collections.abc import Sequence
from pathlib import Path

from quovadis.datasets import hmdb51, ucf101

_KINETICS_NAME = re.compile(r"([\w-]{11})_\d{6}_\d{6}")


def youtube_id(path: Path) -> str:
    """The video of YouTube that a clip was cut from, where the file is named as those of Kinetics; else empty.

    Ids may begin with ``-`` and contain ``_``, so they are told by their 11 characters (FACTS 6.4).

    >>> youtube_id(Path("abseiling/-3B32lo_o2M_000059_000069.mp4"))
    '-3B32lo_o2M'
    """
    match = _KINETICS_NAME.fullmatch(path.stem)
    return match[1] if match else ""


def groups_by_name(paths: Sequence[Path]) -> tuple[str, list[str]]:
    """The groups of the videos of a folder, where every one is named by the rule of one dataset.

    Without them, a split of such a folder would put clips of one scene on both sides.

    Returns:
        The dataset whose rule it is and a group for each path; or an empty name and empty groups.

    >>> groups_by_name([Path("YoYo/v_YoYo_g01_c01.avi"), Path("YoYo/v_YoYo_g02_c01.avi")])
    ('UCF-101', ['YoYo_g01', 'YoYo_g02'])
    >>> groups_by_name([Path("YoYo/v_YoYo_g01_c01.avi"), Path("YoYo/mine.avi")])
    ('', ['', ''])
    """
    rules = {"UCF-101": ucf101.group_of, "HMDB-51": hmdb51.group_of, "Kinetics": youtube_id}
    for dataset, group_of in rules.items():
        groups = [group_of(path) for path in paths]
        if all(groups):
            return dataset, groups
    return "", [""] * len(paths)
