"""Slots and encodings for TensorBoard's projector."""

from pathlib import Path

import numpy as np
from tensorboard.plugins import projector

from memae_tf.training.monitoring.pictures import use

TENSORS, METADATA = "memory.tsv", "memory_metadata.tsv"
# The most encodings, and numbers in them, that a browser handles well.
MAX_ENCODINGS, MAX_NUMBERS = 2000, 2**20


def write_projector(
    directory: Path,
    encodings: np.ndarray,
    scores: np.ndarray,
    slots: np.ndarray | None = None,
    addressing: np.ndarray | None = None,
    unit_length: bool = False,
) -> None:
    """Writes all slots and some encodings as points of one space, with metadata.

    These are two TSV files, one with a point a line, the other with a header and, for each point,
    its kind ("slot" or "encoding"), slot number, use, top slot and score; and the projector's own
    configuration.

    Args:
        directory: The folder of the run's event files.
        encodings: Float array (queries, C), of which some at even distances are written.
        scores: The scores (queries,) of the samples that the queries are from.
        slots: Float array (N, C); `None` without a memory.
        addressing: Float array (queries, N), with the slots.
        unit_length: Whether to scale all points to length 1.
    """
    size = max(1, min(MAX_ENCODINGS, MAX_NUMBERS // encodings.shape[1]))
    chosen = np.unique(np.linspace(0, len(encodings) - 1, size).astype(int))
    points, lines = encodings[chosen], ["kind\tslot\tuse\ttop_slot\tscore"]
    if slots is not None:
        points = np.concatenate([slots, points])
        lines += [f"slot\t{i}\t{share:.6g}\t\t" for i, share in enumerate(use(addressing))]
    for i in chosen:
        # A query that reads nothing has no top slot.
        read = slots is not None and addressing[i].any()
        top = addressing[i].argmax() if read else ""
        lines.append(f"encoding\t\t\t{top}\t{scores[i]:.6g}")
    if unit_length:
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    directory.mkdir(parents=True, exist_ok=True)
    np.savetxt(directory / TENSORS, points, fmt="%.6g", delimiter="\t")
    (directory / METADATA).write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add(
        tensor_name="memory", tensor_path=TENSORS, metadata_path=METADATA
    )
    embedding.tensor_shape.extend(points.shape)
    projector.visualize_embeddings(str(directory), config)
