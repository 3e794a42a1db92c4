"""Footage as it streams: bounded memory, gaps, frames that come too fast."""

import gc
import io
import threading
import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from memae_tf.config import Conv3DModel, FrameScoring, MemoryConfig
from memae_tf.data.clips import Video
from memae_tf.evaluation.frames import score_videos
from memae_tf.layers import ClipFeaturizer
from memae_tf.models import Detector, build_memae
from memae_tf.scoring.curve import MOST_POINTS, ScoreCurve
from memae_tf.scoring.detectors import LocalDetector
from memae_tf.scoring.footage import MOST_WAITING, FootageScorer, ScoredFrame, hottest
from memae_tf.scoring.overlay import TICK, Overlay
from memae_tf.scoring.streams import FRAMES_AHEAD, Ahead, Drop, StreamFrame

SIZE, LENGTH = (8, 8), 4


@pytest.fixture(scope="module", params=["mean", "sum"])
def detector(request) -> LocalDetector:
    keras.utils.set_random_seed(0)
    config = Conv3DModel(
        name="conv3d", filters=[4, 4], reduction=request.param, memory=MemoryConfig(num_slots=5)
    )
    featurizer = ClipFeaturizer(SIZE, LENGTH, frame_stride=2)
    model = build_memae(config, featurizer.feature_shape, None)
    return LocalDetector(Detector(featurizer, model, 0.5))


def stream_frame(number: int, gap: float | None = None) -> StreamFrame:
    pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 1), "uint8")
    return StreamFrame(number, float(number), pixels, None, gap)


@pytest.fixture
def quick_collections():
    """Of what comes about from now on; all that TensorFlow has takes half a second each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collections")
@pytest.mark.parametrize(
    ("patient", "most_alive", "credit"),
    [(False, 40, "frame"), (False, 40, "center"), (True, MOST_WAITING + 40, "clip")],
)
def test_memory_is_bounded(detector, patient, most_alive, credit):
    alive, most = weakref.WeakValueDictionary(), 0

    def frames():
        nonlocal most
        for number in range(700):
            frame = stream_frame(number)
            alive[number] = frame
            if number % 50 == 0:
                gc.collect()
                most = max(most, len(alive))
            yield frame

    scoring = FrameScoring(clip_stride=8, smoothing=2, credit=credit)
    scorer = FootageScorer(detector, scoring, None, explain=True)
    count = maps = 0
    for scored in scorer.run(interleaved(frames()), patient):
        assert scored.frame.number == count
        count += 1
        maps = max(maps, len(scorer._heat._sums))
        del scored
    assert count == 700
    # A clip spans 7 frames, the next starts 8 later, and the smoothing looks 6 ahead.
    assert most < most_alive
    assert 0 < maps < most_alive


@pytest.mark.parametrize("credit", ["clip", "frame", "center"])
def test_heat_is_that_of_all_clips_that_show_a_frame(detector, credit):
    frames = [stream_frame(number) for number in range(23)]
    starts = range(0, 17, 2)
    clips = np.stack(
        [[frame.pixels for frame in frames[start : start + 7 : 2]] for start in starts]
    )
    maps = detector.detect(clips, explain=True)["heat_map"]
    expected = [[] for _ in frames]
    for start, own in zip(starts, maps, strict=True):
        for i, heat in enumerate(own):
            expected[start + 2 * i].append(heat)
    scorer = FootageScorer(detector, FrameScoring(clip_stride=2, credit=credit), None, explain=True)
    for scored, heats in zip(scorer.run(frames, patient=True), expected, strict=True):
        if heats:
            np.testing.assert_allclose(scored.heat, np.mean(heats, axis=0), rtol=1e-4)
        else:
            assert scored.heat is None


def interleaved(frames):
    """With a pause behind every frame: whoever is not patient scores what is there."""
    for frame in frames:
        yield frame
        yield None


def test_no_clip_spans_a_gap(detector):
    first = [stream_frame(number) for number in range(20)]
    second = [stream_frame(number, gap=3.0 if number == 50 else None) for number in range(50, 63)]
    scoring = FrameScoring(clip_stride=3)

    def run(frames, patient=True):
        return list(FootageScorer(detector, scoring, None, explain=False).run(frames, patient))

    together = run([*first, *second])
    assert [scored.frame.number for scored in together] == [*range(20), *range(50, 63)]
    apart = run(first) + run(second)
    scores = [scored.score for scored in together]
    np.testing.assert_array_equal(scores, [scored.score for scored in apart])
    assert np.isfinite(scores).all()
    hurried = run(interleaved([*first, *second]), patient=False)
    np.testing.assert_allclose([scored.score for scored in hurried], scores, rtol=1e-5)


def test_all_frames_before_a_drop_have_their_scores_at_once(detector):
    """Nobody knows when the stream will be back."""
    first, second = ([stream_frame(number) for number in part] for part in (range(20), range(9)))
    scorer = FootageScorer(detector, FrameScoring(clip_stride=3), None, explain=False)
    taken = []

    def frames():
        yield from first
        yield Drop()
        assert len(taken) == 20
        yield replace(second[0], gap=2.0)
        yield from second[1:]

    for scored in scorer.run(frames(), patient=True):
        taken.append(scored)
    assert [scored.frame.number for scored in taken] == [*range(20), *range(9)]
    assert [scored.frame.gap for scored in taken if scored.frame.gap] == [2.0]


@pytest.mark.parametrize("credit", ["clip", "frame", "center"])
def test_scores_and_decisions_are_those_of_a_whole_video(detector, credit):
    # The last of the clips at 0, 3, ..., 12 and 13 ends with the footage.
    frames = [stream_frame(number) for number in range(20)]
    pixels = np.stack([frame.pixels for frame in frames])
    scoring = FrameScoring(clip_stride=3, credit=credit)
    video = Video("a", pixels, np.arange(20), 20, None)
    (expected,) = score_videos(detector._detector, [video], scoring)
    threshold = float(expected[10])
    scored = list(FootageScorer(detector, scoring, threshold, explain=False).run(frames, True))
    np.testing.assert_array_equal([frame.score for frame in scored], expected)
    # A score on its threshold is normal.
    wanted = [None if np.isnan(score) else score > threshold for score in expected]
    assert [frame.is_anomaly for frame in scored] == wanted


@pytest.mark.parametrize(("error", "heat"), [("squared", 3 * 0.22 / 0.02), ("absolute", 3 * 2**2)])
def test_heat_of_colours_by_either_error(error, heat):
    config = Conv3DModel(name="conv3d", filters=[4, 4], reduction="mean")
    scoring = FrameScoring(error=error)
    featurizer = ClipFeaturizer(SIZE, LENGTH, channels=3, frame_scoring=scoring)
    model = build_memae(config, featurizer.feature_shape, None)
    coloured = LocalDetector(Detector(featurizer, model, 0.5))
    assert hottest(coloured, 0.22) == pytest.approx(heat)


def test_heat_of_a_frame_at_the_threshold(detector):
    """It is as hot as it gets where all errors are in a fiftieth of it."""
    frames = [stream_frame(number) for number in range(30)]
    scoring = FrameScoring(credit="frame")
    scorer = FootageScorer(detector, scoring, 0.1, explain=True)
    for scored in scorer.run(frames, patient=True):
        assert scored.heat.shape == SIZE
        assert scored.heat.mean() == pytest.approx(hottest(detector, scored.score) / 50, rel=1e-4)
        assert scored.is_anomaly == (scored.score > 0.1)


def test_frames_for_which_there_is_no_time_are_a_gap():
    all_read, room = threading.Event(), threading.Event()

    def frames():
        yield from map(stream_frame, range(2 * FRAMES_AHEAD))
        all_read.set()
        room.wait(60)
        yield from map(stream_frame, range(200, 203))

    taken = []
    with warnings.catch_warnings(record=True) as warned, Ahead(frames(), drops=True) as ahead:
        warnings.simplefilter("always")
        assert all_read.wait(60)
        for frame in ahead:
            if frame is None:
                room.set()
            else:
                taken.append(frame)
    assert [str(w.message)[:48] for w in warned] == [
        "frames come faster than they are scored, so some"
    ]
    numbers = [frame.number for frame in taken]
    assert numbers[:FRAMES_AHEAD] == list(range(FRAMES_AHEAD))
    assert numbers[FRAMES_AHEAD] in (200, 201, 202)
    assert [frame.gap is not None for frame in taken].index(True) == FRAMES_AHEAD


def test_what_is_wrong_while_reading_ahead_is_raised():
    def frames():
        yield stream_frame(0)
        raise OSError("no more")

    with Ahead(frames(), drops=False) as ahead, pytest.raises(OSError, match="no more"):
        list(ahead)


def test_reading_ahead_ends_when_nobody_wants_more():
    with Ahead(map(stream_frame, range(10**9)), drops=False) as ahead:
        next(frame for frame in ahead if frame is not None)
    ahead._thread.join(60)
    assert not ahead._thread.is_alive()


def test_curve_of_footage_with_dollars_in_its_name():
    curve = ScoreCurve(threshold=2.0)
    curve.add(ScoredFrame(StreamFrame(0, None, None, None), 1.0, None, None))
    curve.figure("a$_$b").savefig(io.BytesIO())


def test_a_score_on_the_threshold_is_not_shaded():
    curve = ScoreCurve(threshold=2.0)
    for number, score in enumerate([2.0, 2.0, 2.5, 2.0]):
        curve.add(ScoredFrame(StreamFrame(number, None, None, None), score, None, None))
    (span,) = curve.figure("a title").axes[0].patches
    shaded = span.get_path().transformed(span.get_patch_transform()).get_extents()
    assert (shaded.x0, shaded.x1) == (1.5, 2.5)


def test_curve_of_any_length_keeps_peaks():
    curve = ScoreCurve(threshold=2.0)
    total = 5 * MOST_POINTS
    for number in range(total):
        score = 9.0 if number == 777 else np.nan if number < 10 else 1.0
        curve.add(ScoredFrame(StreamFrame(number, None, None, None), score, None, None))
    assert len(curve._points) <= MOST_POINTS
    figure = curve.figure("a title")
    (line, _) = figure.axes[0].get_lines()
    x, y = line.get_data()
    assert np.nanmax(y) == 9.0
    # Of the second stretch of 8 frames the first two have no score.
    assert np.isnan(y[0])
    assert y[1] == 1.0
    assert abs(x[np.nanargmax(y)] - 777) <= curve._stretch
    (span,) = figure.axes[0].patches
    shaded = span.get_path().transformed(span.get_patch_transform()).get_extents()
    assert shaded.x0 <= 777 <= shaded.x1
    assert shaded.width == curve._stretch
    assert x[-1] <= total - 1
    assert np.diff(x).min() == np.diff(x).max() == curve._stretch


@pytest.mark.parametrize(
    ("clocks", "shown"),
    [
        ([0, 0.1, 0.2, 0.5], [0, 0.1, 0.2, 0.5]),
        # Frames that fill up the rate, 10 a second.
        ([0, 0, 0, 0.3, 0.3, 0.5, 0.6], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        # The clock is set back, and an hour forward.
        ([5, 5.1, 0, 0.2, 3600, 3600.1], [0, 0.1, 0.2, 0.4, 0.5, 0.6]),
        ([None, None, None], [0, 0.1, 0.2]),
    ],
)
def test_times_of_an_overlay_by_hand(clocks, shown):
    overlay = Overlay(Path("out.mp4"), 1.0, 1.0, rate=10)
    for clock, seconds in zip(clocks, shown, strict=True):
        overlay._tick = overlay._next_tick(clock)
        assert overlay._tick * float(TICK) == pytest.approx(seconds)
