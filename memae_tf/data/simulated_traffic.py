"""Simulated network traffic with the fields of KDDCUP99, for machines without the real set.

With it the example runs anywhere; it does not replace the data, and figures from it are no results.
`simulated_traffic.json`, made by `summarise`, holds for the twelve most frequent classes of the
real set the share of the class, the frequencies of its categories, and five quantiles of each
numeric field, rounded to three digits. `sample` draws every field independently from these: within
a class, single fields are about right, but there are no dependences between them.
"""

import json
from importlib import resources

import numpy as np

from memae_tf.data.dataset import Records

NUM_RECORDS = 100_000
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


def sample(num_records: int = NUM_RECORDS, seed: int = 0) -> tuple[Records, np.ndarray]:
    """Draws records of all classes in their shares, in random order.

    Returns:
        The records, and their class names (records,), such as "smurf." and "normal.".
    """
    table = json.loads(resources.files(__package__).joinpath("simulated_traffic.json").read_text())
    rng = np.random.default_rng(seed)
    classes = table["classes"]
    shares = np.array([statistics["share"] for statistics in classes.values()])
    labels = rng.choice(list(classes), size=num_records, p=shares / shares.sum()).astype(object)
    records = {name: np.zeros(num_records, "float32") for name in table["fields"]}
    for name in table["text_fields"]:
        records[name] = np.full(num_records, "", object)
    for class_name, statistics in classes.items():
        rows = np.flatnonzero(labels == class_name)
        for field, summary in statistics["fields"].items():
            records[field][rows] = _draw(summary, len(rows), rng)
    return records, labels


def _draw(summary, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` values of a field: from frequencies (a dict), or between quantiles (a list)."""
    if isinstance(summary, dict):
        shares = np.array(list(summary.values()))
        return rng.choice(list(summary), size=size, p=shares / shares.sum()).astype(object)
    values = np.interp(rng.uniform(size=size), QUANTILES, summary)
    # Counts are whole numbers; rates, which are at most 1, have two decimals.
    return np.round(values, 0 if max(summary) > 1 else 2).astype("float32")


def summarise(records: Records, labels: np.ndarray, num_classes: int = 12) -> dict:
    """The table of statistics that `sample` draws from; a field that is all zeros is left out."""
    names, counts = np.unique(labels.astype(str), return_counts=True)
    classes = {}
    for index in np.argsort(-counts)[:num_classes]:
        rows = labels == names[index]
        fields = {}
        for field, column in records.items():
            if column.dtype == object:
                words, frequency = np.unique(column[rows].astype(str), return_counts=True)
                top = np.argsort(-frequency)[:8]
                fields[field] = {str(words[i]): _digits(frequency[i] / rows.sum()) for i in top}
            else:
                quantiles = [_digits(q) for q in np.quantile(column[rows], QUANTILES)]
                if any(quantiles):
                    fields[field] = quantiles
        classes[str(names[index])] = {
            "share": _digits(counts[index] / len(labels)),
            "fields": fields,
        }
    return {
        "fields": list(records),
        "text_fields": [name for name, column in records.items() if column.dtype == object],
        "classes": classes,
    }


def _digits(value: float) -> float:
    return float(f"{value:.3g}")
