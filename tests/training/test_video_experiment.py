"""Whole experiments on footage of squares that walk; abnormal is what runs through."""

import json
import shutil
from pathlib import Path

import footage
import numpy as np
import pytest
from reports import pictures

from memae_tf.config import FrameScoring, parse_config
from memae_tf.data import load
from memae_tf.data.clips import Video
from memae_tf.errors import UserError
from memae_tf.evaluation.frames import score_videos
from memae_tf.models import load_detector
from memae_tf.training.experiment import evaluate, measure_system, train
from memae_tf.training.run_directory import RunDirectory


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return footage.write_camera_folder(tmp_path_factory.mktemp("camera"))


@pytest.fixture(scope="module")
def raw(folder) -> dict:
    return footage.camera_config(folder)


@pytest.fixture(scope="module")
def run(raw, tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "camera")
    metrics = train(parse_config(raw), run)
    assert json.loads(run.metrics.read_text()) == metrics
    return run


def test_what_runs_is_abnormal(run):
    metrics = json.loads(run.metrics.read_text())
    # Brought to [0, 1] by itself, the video without anything abnormal looks as bad as the others.
    assert metrics["micro_auc_minmax"] > 0.75
    assert metrics["micro_auc_raw"] > 0.9
    assert metrics["macro_auc"] > 0.9
    assert metrics["roc_auc"] == metrics["micro_auc_raw"]
    assert (metrics["train_records"], metrics["test_records"]) == (160, 120)
    assert metrics["test_anomalies"] == 38


def test_detector_takes_clips_of_any_size_and_shows_where(run, folder):
    detector = load_detector(run.detector)
    frames = footage.scene(40, 10, footage.ODD["a"])
    clips = np.stack([frames[start : start + 8] for start in (0, 16)])
    answer = detector.detect(clips, explain=True)
    assert answer["is_anomaly"][1] == 1
    assert answer["score"][1] > 1.5 * answer["score"][0]
    assert answer["heat_map"].shape == (2, 8, 24, 32)
    np.testing.assert_allclose(answer["frame_score"].mean(axis=1), answer["score"], rtol=1e-5)
    # Where the runner is: rows 6 to 15.
    rows = answer["heat_map"][1].mean(axis=(0, 2))
    assert rows[6:16].mean() > 3 * np.concatenate([rows[:5], rows[17:]]).mean()
    large = np.kron(clips, np.ones((1, 1, 3, 3), "uint8"))
    colour = np.repeat(large[..., None], 3, axis=-1)
    for other in (large, colour, list(colour)):
        # Resizing takes a part of the noise away.
        np.testing.assert_allclose(detector.score(other), answer["score"], rtol=0.5)
    with pytest.raises(ValueError, match=r"8 frames, of shape .*Received: .*\(2, 5, 24, 32\)"):
        detector.score(clips[:, :5])


def test_frames_are_scored_as_the_detector_says(run, raw):
    detector = load_detector(run.detector)
    assert detector.featurizer.frame_scoring == FrameScoring()
    dataset = load(parse_config(raw).data, 0)
    (first, *_) = score_videos(detector, dataset.test.videos, FrameScoring(credit="frame"))
    by_hand = np.zeros((40, 40))
    frames = np.asarray(dataset.test.videos[0].frames)
    for start in range(33):
        by_hand[start, start : start + 8] = detector.detect(frames[None, start : start + 8])[
            "frame_score"
        ][0]
    expected = by_hand.sum(axis=0) / (by_hand > 0).sum(axis=0)
    np.testing.assert_allclose(first, expected, rtol=1e-4)


def test_video_shorter_than_a_clip_has_no_scores(run, raw):
    video = load(parse_config(raw).data, 0).test.videos[0]
    short = Video("short", video.frames[:7], video.numbers[:7], 7, None)
    detector = load_detector(run.detector)
    first, second = score_videos(detector, [short, video], FrameScoring(clip_stride=4))
    assert np.isnan(first).all()
    assert len(first) == 7
    assert np.isfinite(second).all()


@pytest.mark.parametrize(
    ("first", "scoring", "why"),
    [
        (0, "{credit: center}", "all 33 test frames that get a score are of one kind.*credit=clip"),
        (10, "{credit: clip}", "all 40 .* only videos that are as long as a clip have scores"),
    ],
)
def test_labels_of_frames_without_scores_are_refused_before_training(
    tmp_path, raw, first, scoring, why
):
    folder = footage.write_camera_folder(tmp_path / "camera")
    shutil.rmtree(folder / "test")
    footage.write_video(folder / "test" / "a.mkv", footage.scene(40, 10))
    footage.write_video(folder / "test" / "short.mkv", footage.scene(7, 10))
    video = "short,0,3" if first else "a,0,3"
    (folder / "labels.csv").write_text(f"video,first,last\n{video}\n")
    run = RunDirectory(tmp_path / "run")
    config = parse_config(raw, [f"data.dir={folder}", f"evaluation.frames={scoring}"])
    with pytest.warns(UserWarning, match="1 of "), pytest.raises(UserError, match=why):
        train(config, run)
    assert not run.path.exists()


def test_scores_that_are_not_finite(run, raw):
    video = load(parse_config(raw).data, 0).test.videos[0]
    detector = load_detector(run.detector)
    weights = detector.model.get_weights()
    detector.model.set_weights([np.full_like(weight, np.inf) for weight in weights])
    with pytest.raises(UserError, match=rf"{video.name}: scores are not finite"):
        score_videos(detector, [video], FrameScoring())


@pytest.fixture
def copy(run, tmp_path):
    """A run whose files may change."""
    shutil.copytree(run.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def test_absolute_errors(copy, raw):
    config = parse_config(raw, ["evaluation.frames={error: absolute}"])
    metrics = evaluate(config, copy)
    assert metrics["micro_auc_raw"] > 0.9
    detector = load_detector(copy.detector)
    detector.featurizer.frame_scoring = config.evaluation.frames
    frames = footage.scene(40, 10, footage.ODD["a"])
    clips = np.stack([frames[start : start + 8] for start in (0, 16)])
    answer = detector.detect(clips, explain=True)
    # Heat is squared errors still.
    by_hand = np.sqrt(answer["heat_map"]).mean(axis=(2, 3))
    np.testing.assert_allclose(answer["frame_score"], by_hand, rtol=1e-4)
    np.testing.assert_allclose(answer["score"], by_hand.mean(axis=1), rtol=1e-4)
    with pytest.raises(ValueError, match="error=cubed"):
        detector.model.frame_error(clips[..., None], clips[..., None], "cubed")


def test_paper_s_way_of_scoring(copy, raw):
    config = parse_config(raw, ["evaluation.frames={credit: center, clip_stride: 2, smoothing: 1}"])
    metrics = evaluate(config, copy)
    # In each video, the first 4 and the last 3 of 40 frames have no score.
    assert metrics["test_records"] == 3 * 33
    assert metrics["micro_auc_raw"] > 0.9


def test_clips_that_repel_are_spoiled(raw, tmp_path):
    overrides = [
        "training.pseudo_anomalies={skip: 0.2, loss: repel}",
        "model.output_activation=tanh",
        "model.variant=ae",
        "training.epochs=12",
    ]
    run = RunDirectory(tmp_path / "run")
    metrics = train(parse_config(raw, overrides), run)
    assert metrics["micro_auc_raw"] > 0.9
    assert json.loads(run.history.read_text())[-1]["reconstruction"] < 0
    frames = footage.scene(60, 20)
    normal = np.stack([frames[start : start + 8] for start in range(0, 40, 4)])
    fast = np.stack([frames[start : start + 24 : 3] for start in range(0, 40, 4)])
    detector = load_detector(run.detector)
    # Without clips that repel in training, the ratio is about 2.
    assert detector.score(fast).mean() > 4 * detector.score(normal).mean()
    assert detector.detect(fast)["is_anomaly"].all()


def test_report_shows_curves_and_frames(run):
    titles = pictures(run.report)
    assert "Regularity, a to c" in titles
    assert "Abnormal frames with the highest scores" in titles
    page = run.report.read_text()
    for text in ("micro, the scores of each", "micro, unscaled scores", "macro, the mean"):
        assert text in page


def test_unlabelled_footage_is_scored_and_not_evaluated(raw, folder, tmp_path):
    (tmp_path / "train").symlink_to(folder / "train")
    (tmp_path / "test").symlink_to(folder / "test")
    overrides = [f"data.dir={tmp_path}", "training.epochs=1", "model.variant=ae"]
    config = parse_config(raw, [*overrides, "evaluation.frames={clip_stride: 2, smoothing: 1}"])
    run, seen = RunDirectory(tmp_path / "run"), []
    metrics = train(config, run, on_videos=lambda *state: seen.append(state))
    assert metrics["roc_auc"] is None
    assert seen == [(state, n, 7) for state in ("ready", "scored") for n in range(1, 8)]
    assert "Regularity, a to c" in run.report.read_text()
    scoring = load_detector(run.detector).featurizer.frame_scoring
    assert scoring == FrameScoring(clip_stride=2, smoothing=1)


def test_pseudo_anomalies_and_augmentation(raw):
    overrides = [
        "training.pseudo_anomalies={skip: 0.2, patch: 0.2}",
        "training.augmentation={flip: 0.5, crop: 0.1}",
        "training.validation_share=0.25",
    ]
    metrics = measure_system(parse_config(raw, overrides))
    assert metrics["micro_auc_raw"] > 0.85


def test_augmentation_is_for_video():
    raw = {
        "data": {"name": "tabular", "train": "records.csv"},
        "model": {"name": "dense"},
        "training": {"epochs": 1, "augmentation": {"flip": 0.5}},
    }
    with pytest.raises(UserError, match=r"training\.augmentation: is for video"):
        parse_config(raw)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model={name: kde}"], "model.name=kde: baselines take records and images, not video"),
        (["model={name: dense}"], r"\(8, 24, 32, 1\); these are clips, for name=conv3d"),
        (["data.clip_length=50"], "a clip spans 50 frames .* the longest video has 40"),
    ],
)
def test_what_does_not_fit_is_said(raw, overrides, message):
    with pytest.raises(UserError, match=message):
        measure_system(parse_config(raw, overrides))
