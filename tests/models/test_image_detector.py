import keras
import numpy as np
import pandas as pd
import pytest
from keras import ops

from memae_tf.layers import ClipFeaturizer, ImageFeaturizer, MemoryUnit
from memae_tf.models import Detector, MemAE, conv2d, conv3d, load_detector


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


@pytest.fixture(scope="module")
def detector() -> Detector:
    keras.utils.set_random_seed(0)
    featurizer = ImageFeaturizer((12, 10), channels=3, scaling="standard")
    featurizer.adapt(images(30, 12, 10, 3))
    encoder, decoder = conv2d(featurizer.feature_shape, (4, 8), (3, 3), (2, 2), code=5)
    model = MemAE(encoder, MemoryUnit(6), decoder)
    model.build((None, *featurizer.feature_shape))
    return Detector(featurizer, model, threshold=400.0)


def test_score_is_the_model_s_on_the_features(detector):
    x = images(20, 12, 10, 3, seed=1)
    features = ops.convert_to_numpy(detector.featurizer(x))
    answer = detector.detect(x)
    np.testing.assert_allclose(answer["score"], detector.model.score(features), rtol=1e-4)
    np.testing.assert_array_equal(answer["is_anomaly"], answer["score"] > 400)
    assert detector.detect(x, threshold=0.0)["is_anomaly"].all()


def test_one_image_is_no_batch(detector):
    with pytest.raises(ValueError, match=r"one is image\[None\]\. Received: .* \(12, 10, 3\)"):
        detector.detect(images(12, 10, 3))
    assert detector.detect(images(2, 12, 10))["score"].shape == (2,)


def test_heat_map_adds_up_to_the_score_and_shows_where(detector):
    x = np.full((2, 12, 10, 3), 128, "uint8")
    x[1, 2:5, 6:9] = 255
    answer = detector.detect(x, explain=True)
    assert answer["heat_map"].shape == (2, 12, 10)
    np.testing.assert_allclose(answer["heat_map"].sum(axis=(1, 2)), answer["score"], rtol=1e-4)
    row, column = np.unravel_index(answer["heat_map"][1].argmax(), (12, 10))
    assert 2 <= row < 5
    assert 6 <= column < 9


def test_arrays_and_lists_of_mixed_sizes_are_one(detector):
    x = images(7, 12, 10, 3)
    expected = detector.score(x)
    np.testing.assert_allclose(detector.score(list(x)), expected, rtol=1e-5)
    np.testing.assert_allclose(detector.score(x, batch_size=3), expected, rtol=1e-5)
    grey, large = images(5, 6), images(40, 30, 3)
    mixed = detector.detect([x[0], grey, large, x[1]], explain=True)
    np.testing.assert_allclose(mixed["score"][[0, 3]], expected[:2], rtol=1e-5)
    np.testing.assert_allclose(mixed["score"][1], detector.score(grey[None]), rtol=1e-5)
    assert mixed["heat_map"].shape == (4, 12, 10)


def test_no_images_give_no_scores(detector):
    assert detector.detect([], explain=True)["heat_map"].shape == (0, 12, 10)
    assert detector.score(images(0, 12, 10, 3)).shape == (0,)


def test_one_file_holds_everything(detector, tmp_path):
    detector.save(tmp_path / "detector.keras")
    again = load_detector(tmp_path / "detector.keras")
    x = images(5, 20, 20)
    expected, answer = detector.detect(x, explain=True), again.detect(x, explain=True)
    for name in expected:
        np.testing.assert_array_equal(answer[name], expected[name])


@pytest.mark.parametrize(
    "records", [None, {"x": [1.0]}, pd.DataFrame({"x": [1.0]}), pd.Series([1.0]), "a.png", 3]
)
def test_what_is_no_array_and_no_list_is_refused(detector, records):
    name = type(records).__name__
    clips = ClipFeaturizer((12, 10))
    for call, what in ((detector.detect, "Images"), (clips.as_input, "Clips")):
        with pytest.raises(ValueError, match=rf"{what} must be an array or .* Received: {name}$"):
            call(records)
    with pytest.raises(ValueError, match=r"must be uint8 arrays, .* Received: dtype=object$"):
        detector.detect([{"x": 1.0}])


def test_floats_are_refused(detector):
    with pytest.raises(ValueError, match="Images must be uint8 arrays"):
        detector.detect(images(1, 12, 10, 3) / 255)


@pytest.mark.parametrize("error", ["squared", "absolute"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_score_of_a_clip_is_the_mean_of_its_frames(error, reduction):
    featurizer = ClipFeaturizer((8, 8), length=4, frame_scoring={"error": error})
    encoder, decoder = conv3d(featurizer.feature_shape, (3, 4))
    model = MemAE(encoder, MemoryUnit(5), decoder, reduction)
    model.build((None, *featurizer.feature_shape))
    clips = images(3, 4, 8, 8, 1)
    answer = Detector(featurizer, model, threshold=0.5).detect(clips)
    features = featurizer(clips)
    difference = np.abs(ops.convert_to_numpy(features - model(features, training=False)))
    errors = difference**2 if error == "squared" else difference
    frames = errors.mean(axis=(2, 3, 4)) * (errors[0].size if reduction == "sum" else 1)
    np.testing.assert_allclose(answer["frame_score"], frames, rtol=1e-4)
    np.testing.assert_allclose(answer["score"], frames.mean(axis=1), rtol=1e-4)
