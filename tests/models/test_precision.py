import warnings

import keras
import numpy as np
import pytest

from memae_tf.config import Conv2DModel, Conv3DModel, DenseModel, MemoryConfig
from memae_tf.errors import UserError
from memae_tf.layers import ClipFeaturizer, ImageFeaturizer
from memae_tf.models import Detector, build_memae
from memae_tf.models.precision import in_precision
from memae_tf.precision import PRECISIONS

MEMORY = MemoryConfig(num_slots=6)
NETS = {
    "dense": (DenseModel(name="dense", hidden=[8], code=3, memory=MEMORY), (5,)),
    "conv2d": (
        Conv2DModel(name="conv2d", filters=[4, 6], kernels=[3, 3], strides=[2, 2], memory=MEMORY),
        (8, 8, 1),
    ),
    "conv3d": (
        Conv3DModel(name="conv3d", filters=[4, 6], memory=MEMORY, output_activation="tanh"),
        (4, 8, 8, 1),
    ),
    "ae": (DenseModel(name="dense", hidden=[8], code=3, variant="ae"), (5,)),
}


def built(name: str, precision: str):
    config, shape = NETS[name]
    keras.utils.set_random_seed(0)
    return build_memae(config, shape, precision)


def samples(name: str) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3, *NETS[name][1])).astype("float32")


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_copy_is_the_model_that_is_built_in_that_precision(name, precision):
    """Bit by bit, in whichever precision the model was before."""
    expected = built(name, precision)
    for before in PRECISIONS:
        model = built(name, before)
        model.set_weights(expected.get_weights())
        own = model.score(samples(name))
        copy = in_precision(model, precision, NETS[name][1])
        assert copy.compute_dtype == expected.compute_dtype
        np.testing.assert_array_equal(
            copy.score(samples(name)), expected.score(samples(name)), err_msg=before
        )
        np.testing.assert_array_equal(model.score(samples(name)), own, err_msg=before)


@pytest.mark.parametrize(
    ("featurizer", "net", "shape"),
    [
        (ImageFeaturizer((8, 8), 1), "conv2d", (7, 8, 8, 1)),
        (ClipFeaturizer((8, 8), 4), "conv3d", (7, 4, 8, 8, 1)),
    ],
)
def test_detector_keeps_weights_and_threshold(tmp_path, featurizer, net, shape):
    x = np.random.default_rng(2).integers(0, 256, shape).astype("uint8")
    detector = Detector(featurizer, built(net, "mixed_bfloat16"), threshold=3.5)
    scores = detector.score(x)
    full = detector.in_precision("float32")
    assert float(full.threshold) == 3.5
    # bfloat16 has 8 bits.
    np.testing.assert_allclose(full.score(x), scores, rtol=0.02)
    assert np.any(full.score(x) != scores)
    np.testing.assert_array_equal(full.in_precision("mixed_bfloat16").score(x), scores)
    full.save(tmp_path / "full.keras")
    loaded = keras.saving.load_model(tmp_path / "full.keras")
    assert loaded.model.compute_dtype == "float32"
    np.testing.assert_array_equal(loaded.score(x), full.score(x))


def test_what_has_no_other_precision_is_refused():
    model = built("dense", "float32")
    with pytest.raises(ValueError, match="Received: precision='half'"):
        in_precision(model, "half", (5,))
    with warnings.catch_warnings():
        # Layers without weights of their own say that they have no such method.
        warnings.simplefilter("ignore")
        model.quantize("int8")
    with pytest.raises(UserError, match=r"layer \w+ is quantized \(int8\)"):
        in_precision(model, "mixed_bfloat16", (5,))
