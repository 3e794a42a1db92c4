"""Tables of records for TensorBoard, in Markdown."""

from collections.abc import Sequence

import numpy as np
from keras import ops

# The most fields, categories and numbers in a table; more would not be read.
MAX_FIELDS = 20
MAX_CATEGORIES, MAX_NUMBERS = 4, 6
# A field is printed in bold if it has this share of the record's error.
STRIKING_SHARE = 0.1


class PlainFields:
    """Stands in for a `RecordFeaturizer` if there is none: each feature is a field."""

    def __init__(self, num_features: int):
        self.numeric = self.field_names = [f"feature {i}" for i in range(num_features)]
        self.categorical = {}

    def inverse(self, features) -> dict[str, np.ndarray]:
        return dict(zip(self.field_names, features.T, strict=True))

    def field_errors(self, feature_errors):
        return feature_errors


def reconstruction_table(
    fields, x: np.ndarray, reconstruction: np.ndarray, scores: np.ndarray
) -> str:
    """Records and their reconstructions: a row for each field, a column for each record.

    Fields are sorted by their part in the errors of these records; the last ones are left out.

    Args:
        fields: A `RecordFeaturizer` or `PlainFields`.
        x: Features (records, num_features).
        reconstruction: Of the same shape.
        scores: Float array (records,).
    """
    values_in, values_out = _texts(fields, x), _texts(fields, reconstruction)
    errors = ops.convert_to_numpy(fields.field_errors((x - reconstruction) ** 2))
    shares = errors / np.maximum(errors.sum(axis=1, keepdims=True), 1e-12)
    rows = [["field", *(f"score {score:.4g}" for score in scores)]]
    for field in _largest(shares.sum(axis=0), MAX_FIELDS):
        name = fields.field_names[field]
        cells = []
        for before, after, share in zip(
            values_in[name], values_out[name], shares[:, field], strict=True
        ):
            text = before if before == after else f"{before} → {after}"
            cells.append(f"**{text}**" if share >= STRIKING_SHARE else text)
        rows.append([escaped(name), *cells])
    left_out = max(len(fields.field_names) - MAX_FIELDS, 0)
    return (
        "Input → reconstruction (one value if both read the same), in **bold** if the field has "
        f"{STRIKING_SHARE:.0%} or more of the record's error. Fields with the largest errors come "
        f"first; {left_out} are left out.\n\n{markdown_table(rows)}"
    )


def slot_table(fields, decoded: np.ndarray, slots: np.ndarray, use: np.ndarray) -> str:
    """What slots decode to: a row for each slot.

    It has the categories in those fields in which the slots differ most, and the numbers in which
    this slot differs most from the mean of all.

    Args:
        fields: A `RecordFeaturizer` or `PlainFields`.
        decoded: Features (slots, num_features).
        slots: The numbers of the slots.
        use: Their shares of the use.
    """
    weights = (use + 1e-9) / (use + 1e-9).sum()
    deviation = ((decoded - weights @ decoded) ** 2).astype("float32")
    deviation = ops.convert_to_numpy(fields.field_errors(deviation))
    split = len(fields.numeric)
    categorical = split + _largest(weights @ deviation[:, split:], MAX_CATEGORIES)
    values = _texts(fields, decoded)

    def listed(chosen, i: int) -> str:
        names = [fields.field_names[field] for field in chosen]
        return ", ".join(f"{escaped(name)} = {values[name][i]}" for name in names)

    # Number and use share a column, as TensorBoard breaks words in narrow ones.
    rows = [["slot (share of use)", "categories", "numbers that set it apart"]]
    for i, slot in enumerate(slots):
        numeric = _largest(deviation[i, :split], MAX_NUMBERS)
        rows.append([f"{slot} ({use[i]:.1%})", listed(categorical, i), listed(numeric, i)])
    return markdown_table(rows)


def _largest(values: np.ndarray, number: int) -> np.ndarray:
    """The places of the largest values, the largest first."""
    return np.argsort(-values, kind="stable")[:number]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is the header."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _texts(fields, features: np.ndarray) -> dict[str, list[str]]:
    """The values of all fields, as text."""
    return {name: [_text(v) for v in column] for name, column in fields.inverse(features).items()}


def _text(value) -> str:
    if isinstance(value, str):
        return escaped(value) or '""'
    if np.isnan(value):
        return "(none)"
    value = float(value)
    whole = round(value) if np.isfinite(value) else np.inf
    # Scaling to features and back in float32 changes whole numbers a little.
    if abs(value - whole) <= 1e-6 + 1e-5 * abs(whole) and abs(whole) < 1e7:
        return str(whole)
    # Three digits, with an exponent only if needed.
    return f"{float(f'{value:.3g}'):g}"


def escaped(text: str) -> str:
    """A text with the special characters of Markdown and HTML escaped."""
    # A line break would begin a new row of the table.
    text = " ".join(text.split())
    # `&` comes first, as it is in the replacements of the others.
    for character in "&\\|*_`<[":
        text = text.replace(character, f"&#{ord(character)};")
    return text
