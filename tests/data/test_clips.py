import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memae_tf.data.clips import Clips, Video, span


def video(num_frames: int, first: int = 0) -> Video:
    """Every pixel of a frame is its number."""
    numbers = np.arange(first, first + num_frames, dtype="uint8")
    frames = np.broadcast_to(numbers[:, None, None, None], (num_frames, 2, 3, 1))
    return Video(f"v{first}", frames, np.arange(num_frames), num_frames, None)


def starts(clips: Clips) -> list:
    return clips.places.tolist()


def test_windows_by_hand():
    clips = Clips.windows([video(6), video(2), video(5)], length=4, frame_stride=1, stride=2)
    assert starts(clips) == [[0, 0], [0, 2], [2, 0]]
    clips = Clips.windows([video(6), video(5)], 4, 1, 2, to_the_end=True)
    assert starts(clips) == [[0, 0], [0, 2], [1, 0], [1, 1]]
    clips = Clips.windows([video(8)], length=3, frame_stride=2, stride=3)
    assert starts(clips) == [[0, 0], [0, 3]]
    assert clips[1][:, 0, 0, 0].tolist() == [3, 5, 7]


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    length=st.integers(1, 8),
    frame_stride=st.integers(1, 3),
    stride=st.integers(1, 7),
)
def test_no_clip_spans_two_videos_and_the_end_is_covered(lengths, length, frame_stride, stride):
    videos = [video(n, first=50 * i) for i, n in enumerate(lengths)]
    clips = Clips.windows(videos, length, frame_stride, stride, to_the_end=True)
    seen = [set() for _ in videos]
    for i in range(len(clips)):
        clip = clips[i][:, 0, 0, 0].astype(int)
        assert (np.diff(clip) == frame_stride).all()
        number = clips.places[i, 0]
        assert set(clip // 50) == {number}
        seen[number] |= set(clip % 50)
    for n, frames in zip(lengths, seen, strict=True):
        if n >= span(length, frame_stride):
            assert n - 1 in frames


def test_parts():
    clips = Clips.windows([video(10)], 4, 1, 1)
    assert starts(clips[np.array([5, 2])]) == [[0, 5], [0, 2]]
    assert len(clips[::3]) == 3
    assert clips[np.int64(2)].shape == (4, 2, 3, 1)


@given(share=st.floats(0.05, 0.6), seed=st.integers(0, 20), count=st.integers(1, 5))
def test_what_is_held_out_shares_no_frame(share, seed, count):
    clips = Clips.windows([video(40, 50 * i) for i in range(count)], 4, 2, 1)
    kept, held_out = clips.hold_out(share, seed)
    assert len(kept)
    assert len(held_out)
    # Nor is a clip cut short where the footage is cut in two.
    assert {len(c[i]) for c in (kept, held_out) for i in range(len(c))} == {4}
    frames = [{f for i in range(len(c)) for f in c[i][:, 0, 0, 0]} for c in (kept, held_out)]
    assert not frames[0] & frames[1]
    # Skipped frames and patches come from anywhere in the videos of the clips.
    all_kept = {f for v in kept.videos for f in v.frames[:, 0, 0, 0]}
    assert not all_kept & frames[1]
    assert frames[0] <= all_kept
    assert sum(len(v.frames) for v in kept.videos) == sum(len(v.numbers) for v in kept.videos)
    if count > 1:
        assert len(kept) + len(held_out) == len(clips)


def test_share_of_a_single_video_is_near():
    clips = Clips.windows([video(100)], 4, 1, 1)
    assert len(clips.hold_out(0.3, 0)[1]) == pytest.approx(0.3 * len(clips), abs=2)


def test_share_of_several_videos_is_near():
    clips = Clips.windows([video(19, 20 * i) for i in range(10)], 4, 1, 1)
    assert len(clips.hold_out(0.3, 0)[1]) == pytest.approx(0.3 * len(clips))
