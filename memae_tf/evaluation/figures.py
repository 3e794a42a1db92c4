"""Figures of scores, for the report and for TensorBoard."""

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from memae_tf.evaluation.evaluate import Scores

NORMAL, ANOMALY = "#3b6ea5", "#c0392b"


def score_figure(scores: Scores, threshold: float) -> Figure:
    """Histograms of the scores of normal data and of anomalies, and the threshold."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.add_subplot()
    if scores.test is None:
        groups = [("training records", scores.train, NORMAL)]
    else:
        groups = [
            ("normal test records", scores.test[scores.labels == 0], NORMAL),
            ("anomalies", scores.test[scores.labels == 1], ANOMALY),
        ]
    values = np.concatenate([group for _, group, _ in groups])
    low = max(values[values > 0].min(initial=1.0), 1e-6)
    bins = np.geomspace(low, max(values.max(), low * 10), 80)
    for name, group, color in groups:
        axes.hist(np.maximum(group, low), bins, alpha=0.6, label=name, color=color)
    axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set(xscale="log", yscale="log", xlabel="anomaly score", ylabel="records", title="Scores")
    axes.legend()
    return figure


def curves_figure(scores: Scores) -> Figure:
    """The ROC curve, and precision against recall."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    fpr, tpr, _ = roc_curve(scores.labels, scores.test)
    roc.plot(fpr, tpr, color=NORMAL)
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    precision, recall, _ = precision_recall_curve(scores.labels, scores.test)
    pr.plot(recall, precision, color=NORMAL)
    pr.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.02))
    return figure
