import numpy as np
import pytest

from quovadis.evaluation.fvd_inputs import ArrayVideos, FrameChoice


@pytest.mark.parametrize(("num_available", "frame_stride"), [(20, 4), (16, 4), (9, 2), (4, 1), (23, 3)])
def test_random_starts_are_all_that_leave_the_last_frame_inside(num_available: int, frame_stride: int) -> None:
    choice = FrameChoice(num_frames=4, frame_stride=frame_stride, random_start=True)
    starts = {choice.start(num_available, number) for number in range(500)}
    inside = {s for s in range(num_available) if s + 3 * frame_stride <= num_available - 1}
    assert starts == inside


def test_the_last_frame_of_a_video_can_be_taken() -> None:
    """Frame t of the video is t everywhere."""
    video = np.arange(20, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)
    videos = ArrayVideos(np.stack([video] * 100))
    choice = FrameChoice(num_frames=4, frame_stride=4, random_start=True)
    clips = [videos.read(number, choice, lambda frame: frame) for number in range(100)]
    taken = [clip.frames[:, 0, 0, 0].tolist() for clip in clips if clip is not None]
    assert len(taken) == 100
    assert all(np.diff(frames).tolist() == [4, 4, 4] for frames in taken)
    assert (min(f[0] for f in taken), max(f[-1] for f in taken)) == (0, 19)


def test_a_video_must_have_all_frames_of_the_strides() -> None:
    choice = FrameChoice(num_frames=4, frame_stride=4, random_start=True)
    assert choice.start(15, 0) is None
    assert choice.start(16, 0) is not None
