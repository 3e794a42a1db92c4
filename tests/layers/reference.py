"""The memory in NumPy float64, written from the paper's formulas (section 3.3)."""

import numpy as np

EPSILON = 1e-12


def address(
    queries: np.ndarray,
    memory: np.ndarray,
    similarity: str = "cosine",
    scale: float = 10.0,
    shrink: float = 1.0,
    fallback: str = "softmax",
) -> np.ndarray:
    """Addressing weights (queries, N) by equations 4, 5 and 7, and their L1 normalisation."""
    queries, memory = np.float64(queries), np.float64(memory)
    products = queries @ memory.T
    if similarity == "cosine":
        norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(memory, axis=1)
        products = products / norms
    exponentials = np.exp(scale * products)
    w = exponentials / exponentials.sum(axis=1, keepdims=True)
    shrunk = w
    if shrink:
        limit = shrink / len(memory)
        shrunk = np.maximum(w - limit, 0) * w / (np.abs(w - limit) + EPSILON)
    norms = shrunk.sum(axis=1, keepdims=True)
    lost = w if fallback == "softmax" else np.zeros_like(w)
    return np.where(norms > 0, shrunk / np.where(norms > 0, norms, 1), lost)


def entropy(addressing: np.ndarray) -> float:
    """Mean over the queries of the entropy of their weights (equation 11)."""
    terms = addressing * np.log(np.where(addressing > 0, addressing, 1))
    return float(-terms.sum(axis=1).mean())
