import warnings

import numpy as np
import pytest

from memae_tf.config import DenseModel, TrainingConfig
from memae_tf.training.fit import hold_out, warn_of_warm_ups


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
                "warmup_epochs=1.5: the run has 1 epoch, in which the learning rate does not get",
                "model.memory.warmup_steps=40: the run has 1 epoch of 10 steps, and the detector "
                "will have 25% of the memory's shrinkage; it should be 10 or less",
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
