import io

import numpy as np
import pytest

from memae_tf.evaluation.report import loss_figure, number


@pytest.mark.parametrize("losses", [[2.0], [2.0, 1.5, 1.0], [0.5, 0.0, -20.0], [-1.0, -2.0]])
def test_every_loss_is_seen(losses):
    history = [{"epoch": i + 1, "reconstruction": loss} for i, loss in enumerate(losses)]
    figure = loss_figure(history)
    figure.savefig(io.BytesIO())
    axes = figure.axes[0]
    (line,) = axes.get_lines()
    assert len(losses) > 1 or line.get_marker() == "o"
    # All within the axes, and none at minus infinity.
    places = axes.transAxes.inverted().transform(axes.transData.transform(line.get_xydata()))
    assert np.all((places >= 0) & (places <= 1))
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_the_loss_on_held_out_samples_is_seen_beside_that_of_training():
    history = [
        {"epoch": 1, "reconstruction": 3.0, "validation_loss": float("nan")},
        {"epoch": 2, "reconstruction": 1.0, "validation_loss": 2.0},
    ]
    axes = loss_figure(history).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
    np.testing.assert_array_equal(axes.get_lines()[1].get_ydata(), [np.nan, 2.0])
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (123, "123"),
        (137.34578, "137.3458"),
        (0.5, "0.5000"),
        (0.0, "0.0000"),
        (0.018362481, "0.01836"),
        (0.00024, "0.0002400"),
    ],
)
def test_numbers_have_four_digits(value, text):
    assert number(value) == text
