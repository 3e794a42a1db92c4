import io

import numpy as np
import pytest

from memae_tf.evaluation.figures import regularity_figure
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
