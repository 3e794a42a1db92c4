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
