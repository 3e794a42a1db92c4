import numpy as np

from memae_tf.training.fit import hold_out


def test_held_out_records_are_apart():
    records = {"x": np.arange(100.0)}
    kept, held_out = hold_out(records, 0.25, seed=3)
    assert len(held_out["x"]) == 25
    assert sorted([*kept["x"], *held_out["x"]]) == list(range(100))
    assert hold_out(records, 0, seed=3) == (records, None)
    assert len(hold_out({"x": np.arange(2)}, 0.01, seed=3)[1]["x"]) == 1
