import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memae_tf.config import FrameScoring
from memae_tf.data.clips import Clips, Video
from memae_tf.evaluation.frames import FrameScorer, scored_frames
from memae_tf.evaluation.metrics import VideoScores, frame_aucs


def run(starts, frame_scores, total, frame_stride=1, length=None, **scoring) -> np.ndarray:
    """The scores of all frames; a clip's score is the mean of its frames'."""
    length = length or len(frame_scores[0])
    scorer = FrameScorer(length, frame_stride, FrameScoring(**scoring))
    parts, expected = [], 0
    for start, own in zip(starts, frame_scores, strict=True):
        first, scores = scorer.add(start, float(np.mean(own)), np.asarray(own, "float32"))
        assert first == expected
        expected += len(scores)
        parts.append(scores)
    first, scores = scorer.finish(total)
    assert first == expected
    result = np.concatenate([*parts, scores])
    assert len(result) == total
    return result


CLIPS = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_clip_is_the_mean_of_the_clips_that_show_a_frame():
    np.testing.assert_allclose(run([0, 1, 2], CLIPS, 5), [2, 3.5, 5, 6.5, 8])


def test_frame_is_the_mean_of_what_clips_say_of_a_frame():
    scores = run([0, 1, 2], CLIPS, 5, credit="frame")
    np.testing.assert_allclose(scores, [1, (2 + 4) / 2, (3 + 5 + 7) / 3, (6 + 8) / 2, 9])


def test_center_is_the_clip_s_score_at_its_middle_frame():
    clips = [[i] * 16 for i in range(5)]
    scores = run(range(5), clips, 20, credit="center")
    np.testing.assert_allclose(scores[8:13], range(5))
    # The labels used in the authors' code: gt[8:-7].
    assert np.isnan(scores[:8]).all()
    assert np.isnan(scores[-7:]).all()


@given(
    total=st.integers(1, 40),
    length=st.integers(1, 6),
    frame_stride=st.integers(1, 3),
    clip_stride=st.integers(1, 7),
    credit=st.sampled_from(["clip", "frame", "center"]),
)
def test_frames_that_will_have_a_score(total, length, frame_stride, clip_stride, credit):
    video = Video("a", np.zeros((total, 1, 1, 1), "uint8"), np.arange(total), total, None)
    starts = Clips.windows([video], length, frame_stride, clip_stride, to_the_end=True).places[:, 1]
    ones = [[1.0] * length for _ in starts]
    scores = run(starts, ones, total, frame_stride, length, credit=credit, clip_stride=clip_stride)
    expected = np.zeros(total, bool)
    expected[scored_frames(total, length, frame_stride, FrameScoring(credit=credit))] = True
    np.testing.assert_array_equal(np.isfinite(scores), expected)


def test_between_scored_frames_it_is_linear():
    scores = run([0, 4], [[0] * 4, [8] * 4], 8, credit="center")
    np.testing.assert_allclose(scores, [np.nan, np.nan, 0, 2, 4, 6, 8, np.nan])
    # Every second frame of the footage; no clip shows the odd ones.
    scores = run([0, 2], [[0, 4], [8, 2]], 5, frame_stride=2, credit="frame")
    np.testing.assert_allclose(scores, [0, 3, 6, 4, 2])


def test_last_score_holds_where_no_clip_ends_at_the_last_frame():
    np.testing.assert_allclose(run([0], [[1, 2, 3]], 5, credit="frame"), [1, 2, 3, 3, 3])


def test_video_without_clips_has_no_scores():
    assert np.isnan(run([], [], 3, length=16)).all()


@settings(max_examples=40)
@given(
    total=st.integers(8, 60),
    stride=st.integers(1, 6),
    credit=st.sampled_from(["clip", "frame", "center"]),
    smoothing=st.sampled_from([0.0, 0.5, 2.0]),
    seed=st.integers(0, 5),
)
def test_stream_gives_what_the_whole_gives(total, stride, credit, smoothing, seed):
    """Against scores computed from whole arrays at once."""
    rng = np.random.default_rng(seed)
    starts = list(range(0, total - 7, stride))
    if starts[-1] != total - 8:
        starts.append(total - 8)
    clips = rng.random((len(starts), 8))
    found = run(starts, clips, total, credit=credit, smoothing=smoothing)
    sums, counts = np.zeros(total), np.zeros(total)
    for start, own in zip(starts, clips, strict=True):
        if credit == "center":
            sums[start + 4] += np.float32(own).mean()
            counts[start + 4] += 1
        else:
            sums[start : start + 8] += own if credit == "frame" else np.float32(own).mean()
            counts[start : start + 8] += 1
    known = np.flatnonzero(counts)
    inside = np.arange(known[0], known[-1] + 1)
    raw = np.interp(inside, known, sums[known] / counts[known])
    if smoothing:
        distance = inside[:, None] - inside
        weights = np.exp(-0.5 * (distance / smoothing) ** 2)
        weights[np.abs(distance) > np.ceil(3 * smoothing)] = 0
        raw = weights @ raw / weights.sum(axis=1)
    expected = np.full(total, np.nan)
    expected[inside] = raw
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scores_come_as_soon_as_nothing_can_change_them():
    scorer = FrameScorer(4, 1, FrameScoring(smoothing=1.0))
    known = [len(scorer.add(start, 1.0, np.ones(4))[1]) for start in range(10)]
    # Frames before the newest clip, less the 3 that smoothing looks ahead.
    assert np.cumsum(known).tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert len(scorer._credits) <= 4
    assert len(scorer._raw) <= 7


def test_three_aucs_by_hand():
    videos = [
        VideoScores("a", np.array([np.nan, 1, 2, 3, 4], "float32"), np.array([1, 0, 0, 1, 1])),
        VideoScores("b", np.array([10, 30, 20], "float32"), np.array([0, 0, 1])),
    ]
    figures = frame_aucs(videos)
    # Of a all 4 pairs are right, of b 1 of 2.
    assert figures["macro_auc"] == pytest.approx((1 + 0.5) / 2)
    # Raw: anomalies 3, 4, 20 against 1, 2, 10, 30.
    assert figures["micro_auc_raw"] == pytest.approx((2 + 2 + 3) / 12)
    # In [0, 1]: anomalies 2/3, 1, 1/2 against 0, 1/3, 0, 1.
    assert figures["micro_auc_minmax"] == pytest.approx((3 + 3.5 + 3) / 12)


def test_videos_of_one_kind_count_in_micro_alone():
    videos = [
        VideoScores("normal", np.array([1.0, 2.0]), np.array([0, 0])),
        VideoScores("abnormal", np.array([3.0, 3.0]), np.array([1, 1])),
        VideoScores("short", np.array([np.nan]), np.array([1])),
    ]
    figures = frame_aucs(videos)
    assert figures["macro_auc"] is None
    assert figures["micro_auc_raw"] == 1
