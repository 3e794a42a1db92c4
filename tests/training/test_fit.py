import warnings

import numpy as np
import pytest

from memae_tf.config import Conv2DModel, DenseModel, TrainingConfig
from memae_tf.data import Dataset
from memae_tf.layers import ImageFeaturizer
from memae_tf.training.averaging import estimate_statistics
from memae_tf.training.fit import featurize, fit, hold_out, warn_of_warm_ups
from memae_tf.training.samples import ArraySamples


def test_held_out_records_are_apart():
    records = {"x": np.arange(100.0)}
    kept, held_out = hold_out(records, 0.25, seed=3)
    assert len(held_out["x"]) == 25
    assert sorted([*kept["x"], *held_out["x"]]) == list(range(100))
    assert hold_out(records, 0, seed=3) == (records, None)
    assert len(hold_out({"x": np.arange(2)}, 0.01, seed=3)[1]["x"]) == 1


@pytest.mark.parametrize(
    ("training", "warmup_steps", "fragments"),
    [
        ({"epochs": 4, "warmup_epochs": 3.9}, 40, []),
        ({"epochs": 4, "warmup_epochs": 4}, 0, ["training.warmup_epochs=4: the run has 4 epochs"]),
        (
            {"epochs": 1, "warmup_epochs": 1.5},
            40,
            [
                "warmup_epochs=1.5: the run has 1 epoch, so the learning rate does not reach",
                "model.memory.warmup_steps=40: the run has 1 epoch of 10 steps, so the detector "
                "will have only 25% of the memory's shrinkage; it should be 10 or less",
            ],
        ),
    ],
)
def test_what_is_still_warming_up_in_the_end_is_said(training, warmup_steps, fragments):
    model = DenseModel(name="dense", memory={"warmup_steps": warmup_steps})
    with warnings.catch_warnings(record=True) as caught:
        warn_of_warm_ups(model, TrainingConfig(**training), steps_per_epoch=10)
        without = model.model_copy(update={"variant": "ae"})
        warn_of_warm_ups(without, TrainingConfig(epochs=1), steps_per_epoch=10)
    said = [str(warning.message) for warning in caught]
    assert len(said) == len(fragments)
    assert all(fragment in text for fragment, text in zip(fragments, said, strict=True))


def test_a_detector_of_averaged_weights_has_their_statistics():
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), "uint8")
    featurizer = ImageFeaturizer((8, 8))
    dataset = Dataset(
        name="images",
        protocol="unlabelled",
        simulated=False,
        featurizer=featurizer,
        train=images,
        test=None,
        labels=None,
        threshold="train_quantile",
    )
    architecture = Conv2DModel(
        name="conv2d", filters=[4, 4], kernels=[3, 3], strides=[2, 2], memory={"num_slots": 6}
    )
    training = TrainingConfig(epochs=2, batch_size=10, averaging=0.9)
    detector, _ = fit(architecture, training, dataset)
    weights = detector.model.get_weights()
    estimate_statistics(detector.model, ArraySamples(featurize(featurizer, images)), training)
    for expected, found in zip(detector.model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
