import io

import numpy as np
import pytest

from memae_tf.evaluation.evaluate import Scores
from memae_tf.evaluation.figures import regularity_figure, score_figure
from memae_tf.evaluation.metrics import VideoScores


@pytest.mark.parametrize("name", ["a$_$b", "$^$", "5$", r"a\$_\$b$_$"])
def test_names_with_dollars_are_shown_as_they_are(name):
    videos = [VideoScores(name, np.array([0.1, 0.5, 0.2]), None)] * 2
    figure = regularity_figure(videos, 0.3)
    figure.savefig(io.BytesIO())
    for text, shown in (
        (figure._suptitle, f"Regularity, {name} to {name}"),
        (figure.axes[0].yaxis.label, name),
    ):
        # What is drawn: the text, and whether it is mathematics.
        assert text._preprocess_math(text.get_text()) == (shown, False)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_scores_of_any_size_fill_their_figure(scale):
    scores = np.array([0.0, 1.0, 2.0, 3.0, 30.0], "float32") * scale
    axes = score_figure(Scores(scores, scores, np.array([0, 0, 0, 1, 1])), 2.0 * scale).axes[0]
    low, high = axes.get_xlim()
    assert scale / 2 < low < scale
    assert 30 * scale < high < 60 * scale


def test_scores_close_to_each_other_fill_their_figure():
    scores = np.array([0.057, 0.058, 0.06, 0.07], "float32")
    axes = score_figure(Scores(scores, scores, np.array([0, 0, 1, 1])), 0.06).axes[0]
    low, high = axes.get_xlim()
    assert 0.055 < low < 0.057
    assert 0.07 < high < 0.072


def test_scores_that_are_all_the_same_have_a_figure():
    scores = np.full(4, 0.5, "float32")
    axes = score_figure(Scores(scores, scores, np.array([0, 0, 1, 1])), 0.5).axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 4
