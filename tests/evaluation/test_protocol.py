import pytest

from quovadis.errors import UnknownNameError
from quovadis.evaluation.protocol import PROTOCOLS, find_protocol
from quovadis.models.i3d import i3d_spec

SPEC = i3d_spec("rgb")


def test_the_paper_takes_250_frames_and_loops_shorter_videos() -> None:
    (long,) = PROTOCOLS["paper"].ticks(400, SPEC)
    assert long.tolist() == list(range(250))
    (short,) = PROTOCOLS["paper"].ticks(100, SPEC)
    assert short.tolist() == [*range(100), *range(100), *range(50)]
    assert PROTOCOLS["paper"].longest(SPEC) == 250


def test_the_whole_video_is_looped_only_to_a_training_clip() -> None:
    assert [t.tolist() for t in PROTOCOLS["whole"].ticks(400, SPEC)] == [list(range(400))]
    assert [t.tolist() for t in PROTOCOLS["whole"].ticks(40, SPEC)] == [[*range(40), *range(24)]]


def test_clips_are_spread_evenly() -> None:
    assert [(int(t[0]), len(t)) for t in PROTOCOLS["center-clip"].ticks(264, SPEC)] == [(100, 64)]
    assert [int(t[0]) for t in PROTOCOLS["ten-clips"].ticks(154, SPEC)] == list(range(0, 91, 10))


def test_a_protocol_speaks_for_itself() -> None:
    assert find_protocol("ten-clips").describe(SPEC) == (
        "ten-clips: 64 frames at 25 fps, from 10 places, shorter videos looped, centre crop 224 px, logits averaged"
    )
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        find_protocol("papr")
