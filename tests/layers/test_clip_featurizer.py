import keras
import numpy as np
import pytest
from keras import ops

from memae_tf.config import FrameScoring
from memae_tf.layers import ClipFeaturizer, ImageFeaturizer


def clips(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


def run(featurizer, x) -> np.ndarray:
    return ops.convert_to_numpy(featurizer(x))


@pytest.mark.parametrize("shape", [(2, 4, 8, 10, 1), (2, 4, 20, 30, 1), (2, 4, 20, 30, 3)])
def test_every_frame_is_what_image_featurizer_makes_of_it(shape):
    x = clips(*shape)
    expected = run(ImageFeaturizer((8, 10), scaling="symmetric"), x.reshape(-1, *shape[2:]))
    found = run(ClipFeaturizer((8, 10), length=4), x)
    np.testing.assert_allclose(found, expected.reshape(2, 4, 8, 10, 1), atol=1e-5)


def test_symmetric_by_hand():
    x = np.array([0, 51, 255, 204], "uint8").reshape(1, 1, 2, 2, 1)
    np.testing.assert_allclose(
        run(ClipFeaturizer((2, 2), 1), x).ravel(), [-1, -0.6, 1, 0.6], rtol=1e-6
    )


def test_standard_scaling_and_inverse():
    x = clips(6, 4, 5, 6, 3)
    featurizer = ClipFeaturizer((5, 6), 4, channels=3, scaling="standard")
    featurizer.adapt(x)
    features = run(featurizer, x)
    np.testing.assert_allclose(features.mean(axis=(0, 1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(axis=(0, 1, 2, 3)), 1, atol=1e-5)
    np.testing.assert_array_equal(featurizer.inverse(features), x)


def test_lists_of_any_sizes_keep_their_places():
    featurizer = ClipFeaturizer((8, 8), 4)
    mixed = [clips(4, 8, 8), clips(4, 20, 10, 3), clips(4, 8, 8, 1, seed=1)]
    places = [p for own, _ in featurizer.batches(featurizer.as_input(mixed), 3) for p in own]
    assert sorted(places) == [0, 1, 2]
    assert featurizer.as_input(clips(3, 4, 8, 8)).shape == (3, 4, 8, 8, 1)


def test_config_holds_how_frames_are_scored():
    scoring = FrameScoring(clip_stride=4, credit="center", smoothing=1.5)
    featurizer = ClipFeaturizer((8, 8), 4, frame_stride=2, frame_scoring=scoring)
    config = keras.saving.serialize_keras_object(featurizer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.frame_scoring == scoring
    assert (again.length, again.frame_stride) == (4, 2)
    assert again.describe_features() == featurizer.describe_features()


def test_arguments_out_of_range():
    for name in ("length", "frame_stride"):
        for value in (0, 2.5, True):
            with pytest.raises(ValueError, match=f"positive integer. Received: {name}={value}"):
                ClipFeaturizer((4, 4), **{name: value})
    for rate in (0, -25.0, float("nan"), float("inf"), "25"):
        with pytest.raises(ValueError, match=f"Received: frame_rate={rate}"):
            ClipFeaturizer((4, 4), frame_rate=rate)
    with pytest.raises(ValueError, match="scaling=image"):
        ClipFeaturizer((8, 8), 4, scaling="image")
    featurizer = ClipFeaturizer((8, 8), 4)
    with pytest.raises(ValueError, match=r"shape \(batch, 4, height, width, channels\)"):
        featurizer(clips(2, 5, 8, 8, 1))
    with pytest.raises(ValueError, match="Clips must be uint8 arrays"):
        featurizer.as_input(clips(2, 4, 8, 8, 1) / 255)
    with pytest.raises(ValueError, match="Clips must be an array"):
        featurizer.as_input(clips(8, 8))
    with pytest.raises(ValueError, match="A clip must be an array"):
        list(featurizer.batches([clips(8, 8)], 1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            [[*clips(3, 8, 8), *clips(1, 6, 8)]],
            "A clip must be one array, .* the same size. Received: a list of parts whose sizes dif",
        ),
        (clips(2, 5, 8, 8), r"Clips must have 4 frames, .* array of shape \(2, 5, 8, 8\)$"),
        ([clips(5, 8, 8, 3)], r"A clip must have 4 frames, .* array of shape \(5, 8, 8, 3\)$"),
        (clips(2, 4, 8, 8, 2), r"must have pixels of 1, 3 or 4 channels\. .* \(2, 4, 8, 8, 2\)$"),
        (clips(2, 4, 0, 8, 1), r"must have pixels of 1, 3 or 4 channels\. .* \(2, 4, 0, 8, 1\)$"),
    ],
    ids=["frames of several sizes", "length", "length in a list", "channels", "no pixels"],
)
def test_what_is_no_clip_is_refused_before_a_graph_sees_it(wrong, message):
    featurizer = ClipFeaturizer((8, 8), 4)
    with pytest.raises(ValueError, match=message):
        list(featurizer.batches(featurizer.as_input(wrong), 2))
