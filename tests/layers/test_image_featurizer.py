import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from memae_tf.layers import ImageFeaturizer


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


def run(featurizer: ImageFeaturizer, x) -> np.ndarray:
    return ops.convert_to_numpy(featurizer(x))


def test_scalings_by_hand():
    x = np.array([0, 51, 255, 204], "uint8").reshape(1, 2, 2, 1)
    unit = run(ImageFeaturizer((2, 2)), x)
    np.testing.assert_allclose(unit.ravel(), [0, 0.2, 1, 0.8], rtol=1e-6)
    symmetric = run(ImageFeaturizer((2, 2), scaling="symmetric"), x)
    np.testing.assert_allclose(symmetric.ravel(), [-1, -0.6, 1, 0.6], rtol=1e-6)


@pytest.mark.parametrize("size", [(3, 5), (7, 7), (16, 9), (31, 40)])
def test_resized_images_stay_within_bounds(size):
    x = np.full((1, 40, 40, 1), 255, "uint8")
    x[:, :7] = 0
    features = run(ImageFeaturizer(size), x)
    assert features.min() >= 0
    assert features.max() <= 1


def test_what_features_are_can_be_said():
    x = images(2, 4, 5, 1)
    for scaling in ("unit", "standard", "image"):
        featurizer = ImageFeaturizer((4, 5), scaling=scaling)
        featurizer.adapt(x)
        about = featurizer.describe_features()
        if scaling == "image":
            # Of each image by itself, so that there are no numbers for all.
            assert about == {"size": [4, 5], "channels": 1, "scaling": "image"}
        else:
            by_hand = (x - np.array(about["offset"])) / np.array(about["spread"])
            np.testing.assert_allclose(run(featurizer, x), by_hand, atol=1e-5)


def test_standard_scaling_is_a_z_score_of_every_channel():
    x = images(20, 6, 5, 3)
    x[..., 1] //= 4
    x[..., 2] = 7
    featurizer = ImageFeaturizer((6, 5), channels=3, scaling="standard")
    featurizer.adapt(x)
    features = run(featurizer, x)
    np.testing.assert_allclose(features.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    # A channel of one value has no spread, and becomes 0.
    np.testing.assert_allclose(features.std(axis=(0, 1, 2)), [1, 1, 0], atol=1e-5)
    with pytest.raises(ValueError, match="one image or more"):
        featurizer.adapt(x[:0])


@pytest.mark.parametrize("level", [1, 77, 200])
def test_even_images_have_a_spread_but_for_rounding(level):
    """Their grey is no whole number, and the mean of its squares may be below its squared mean."""
    x = np.broadcast_to(np.array([level, 13, 200], "uint8"), (3, 7, 7, 3))
    featurizer = ImageFeaturizer((7, 7), scaling="standard")
    featurizer.adapt(x)
    np.testing.assert_allclose(run(featurizer, x), 0, atol=1e-4)


def test_image_scaling_is_a_z_score_within_each_image():
    x = np.array([[10, 30, 10, 30], [100, 200, 200, 100], [7, 7, 7, 7], [8, 8, 8, 7]], "uint8")
    featurizer = ImageFeaturizer((2, 2), scaling="image")
    features = run(featurizer, x.reshape(4, 2, 2, 1)).reshape(4, 4)
    np.testing.assert_allclose(features[0], [-1, 1, -1, 1], rtol=1e-6)
    np.testing.assert_allclose(features[1], [-1, 1, 1, -1], rtol=1e-6)
    np.testing.assert_array_equal(features[2], 0)
    # One grey value of noise is not blown up to a picture: its spread counts as 1.
    np.testing.assert_allclose(features[3], [0.25, 0.25, 0.25, -0.75], rtol=1e-6)
    # Shown as a typical training image: mean 20 and 150, spread 10 and 50.
    featurizer.adapt(x[:2].reshape(2, 2, 2, 1))
    shown = featurizer.inverse(np.array([-1.0, 0, 1, 9]).reshape(1, 2, 2, 1))
    np.testing.assert_array_equal(shown.ravel(), [55, 85, 115, 255])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), gain=st.floats(0.3, 1), offset=st.integers(0, 60))
def test_image_scaling_forgets_brightness_and_contrast(seed, gain, offset):
    x = images(1, 9, 8, 3, seed=seed)
    dimmed = np.rint(x * gain * 0.75 + offset).astype("uint8")
    featurizer = ImageFeaturizer((9, 8), channels=3, scaling="image")
    np.testing.assert_allclose(run(featurizer, dimmed), run(featurizer, x), atol=0.05)


def test_grey_and_colour():
    colour = np.array([[[[255, 0, 0]], [[0, 255, 0]]]], "uint8")
    grey = run(ImageFeaturizer((2, 1)), colour)
    np.testing.assert_allclose(grey.ravel(), [0.299, 0.587], rtol=1e-6)
    again = run(ImageFeaturizer((2, 1), channels=3), np.full((1, 2, 1, 1), 51, "uint8"))
    np.testing.assert_allclose(again, np.full((1, 2, 1, 3), 0.2), rtol=1e-6)
    with_alpha = np.concatenate([colour, np.zeros((1, 2, 1, 1), "uint8")], axis=-1)
    np.testing.assert_array_equal(run(ImageFeaturizer((2, 1)), with_alpha), grey)


def test_other_sizes_are_resized_with_antialiasing():
    fine = np.tile(np.array([[0, 255], [255, 0]], "uint8"), (16, 16))[None, ..., None]
    small = run(ImageFeaturizer((8, 8)), fine)
    assert small.shape == (1, 8, 8, 1)
    # A checkerboard of single pixels becomes an even grey, not black or white.
    np.testing.assert_allclose(small, 0.5, atol=0.05)
    # So do stripes as wide as a pixel of four, which a bilinear look at the middle would miss.
    stripes = np.tile(np.array([255, 0, 0, 0], "uint8"), (4, 4))[None, ..., None]
    np.testing.assert_allclose(run(ImageFeaturizer((1, 4)), stripes)[0, 0, 1:3], 0.25, rtol=1e-5)
    large = run(ImageFeaturizer((64, 48)), np.full((2, 7, 9, 1), 100, "uint8"))
    np.testing.assert_allclose(large, np.full((2, 64, 48, 1), 100 / 255), rtol=1e-5)


def test_lists_of_any_sizes_keep_their_places():
    featurizer = ImageFeaturizer((8, 8), channels=3)
    mixed = [images(8, 8), images(20, 10, 3), images(8, 8, 1, seed=1), images(9, 9, 4)]
    seen = {}
    for places, batch in featurizer.batches(featurizer.as_input(mixed), batch_size=3):
        for place, row in zip(places, run(featurizer, batch), strict=True):
            seen[int(place)] = row
    assert sorted(seen) == [0, 1, 2, 3]
    for place, image in enumerate(mixed):
        alone = image[None, ..., None] if image.ndim == 2 else image[None]
        np.testing.assert_allclose(seen[place], run(featurizer, alone)[0], atol=1e-6)


def test_large_images_come_in_small_batches():
    """Their pixels are 32 MiB at a time, whatever the size that the model takes."""
    featurizer = ImageFeaturizer((8, 8))
    large = np.zeros((5, 4096, 4096, 1), "uint8")
    for given_images in (large, list(large)):
        batches = list(featurizer.batches(featurizer.as_input(given_images), batch_size=1024))
        assert [len(batch) for _, batch in batches] == [2, 2, 1]
        assert np.concatenate([places for places, _ in batches]).tolist() == [0, 1, 2, 3, 4]
    sizes = [np.zeros((4096, 3000 + i), "uint8") for i in range(4)]
    held = [len(batch) for _, batch in featurizer.batches(sizes, batch_size=1024)]
    assert held == [1, 1, 1, 1]
    small = np.zeros((1000, 28, 28), "uint8")
    (batch,) = featurizer.batches(featurizer.as_input(small), batch_size=1024)
    assert len(batch[0]) == 1000


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), scaling=st.sampled_from(["unit", "symmetric", "standard"]))
def test_inverse_gives_the_image_back(seed, scaling):
    x = images(3, 4, 5, 3, seed=seed)
    featurizer = ImageFeaturizer((4, 5), channels=3, scaling=scaling)
    featurizer.adapt(x)
    np.testing.assert_array_equal(featurizer.inverse(run(featurizer, x)), x)


def test_inverse_of_what_no_image_has_is_cut():
    featurizer = ImageFeaturizer((1, 2))
    beyond = featurizer.inverse(np.array([-3.0, 2.0]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(beyond.ravel(), [0, 255])


def test_statistics_are_saved(tmp_path):
    featurizer = ImageFeaturizer((6, 6), channels=3, scaling="standard")
    featurizer.adapt(images(9, 6, 6, 3))
    model = keras.Sequential([keras.Input((6, 6, 3), dtype="uint8"), featurizer])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    assert again.get_config() == featurizer.get_config()
    for a, b in zip(again.get_weights(), featurizer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_arguments_and_wrong_images():
    for size in ((4,), 4, (4, 0), (4, 4.0), (4, True), "44"):
        with pytest.raises(ValueError, match=r"must be 2 positive integers. Received: size="):
            ImageFeaturizer(size)
    assert ImageFeaturizer(np.array([4, 5])).size == (4, 5)
    # Grey images as narrow as that are no image in colour.
    assert ImageFeaturizer((8, 3)).as_input(images(5, 8, 3)).shape == (5, 8, 3, 1)
    with pytest.raises(ValueError, match="looks like one image in colour"):
        ImageFeaturizer((8, 8)).as_input(images(5, 8, 3))
    with pytest.raises(ValueError, match="Received: channels=2"):
        ImageFeaturizer((4, 4), channels=2)
    with pytest.raises(ValueError, match="Received: scaling=log"):
        ImageFeaturizer((4, 4), scaling="log")
    featurizer = ImageFeaturizer((4, 4))
    with pytest.raises(ValueError, match="with 1, 3 or 4 channels"):
        featurizer(images(2, 4, 4, 2))
    with pytest.raises(ValueError, match="Received: dtype=float32"):
        featurizer.as_input(np.zeros((1, 4, 4, 1), "float32"))
    with pytest.raises(ValueError, match="array of shape"):
        featurizer.as_input(images(4, 4))
    with pytest.raises(ValueError, match="array of shape"):
        list(featurizer.batches([images(4)], 1))
