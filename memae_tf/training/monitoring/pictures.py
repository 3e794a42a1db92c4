"""Pictures for TensorBoard: uint8 arrays (height, width, 3)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

DPI = 100
# The most rows and columns of a heat map; more would not be readable.
MAX_ROWS = 100
MAX_COLUMNS = 500
# The most slot numbers that fit beside the rows.
MAX_LABELS = 20
# Sides of a tile in pixels: tiny images are enlarged, large ones reduced.
SMALLEST_TILE, LARGEST_TILE = 72, 144
MARGIN, CAPTION, ROW_LABELS = 6, 15, 110
GRID_COLUMNS = 8
# Of a clip.
SHOWN_FRAMES = 8


def pixels(figure: Figure) -> np.ndarray:
    """A figure as an array."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def heat_map(addressing: np.ndarray) -> np.ndarray:
    """The addressing weights, slots against queries, and beside it the use of the slots.

    Slots are sorted by use and queries by top slot, so that a working memory shows as a staircase,
    a collapsed one as a line along the top or as one even colour. Of many slots the most used ones
    are shown, of many queries some at even distances.

    Args:
        addressing: Float array (queries, N) of weights.
    """
    share = use(addressing)
    by_use = np.argsort(-share, kind="stable")
    rows = by_use[:MAX_ROWS]
    # `argsort` of an order is its inverse: the rank of each slot by use.
    top = np.argsort(by_use)[addressing.argmax(axis=1)]
    # Queries that read nothing have no top slot.
    top[addressing.max(axis=1) == 0] = len(share)
    order = np.lexsort((-addressing.max(axis=1), top))
    columns = order[np.linspace(0, len(order) - 1, min(len(order), MAX_COLUMNS)).astype(int)]

    # TensorBoard shows pictures small: on few inches, letters are large.
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    weights, bars = figure.subplots(1, 2, sharey=True, width_ratios=(5, 1))
    shown = addressing[np.ix_(columns, rows)].T
    image = weights.imshow(
        # Weights cut by shrinkage stay white.
        np.ma.masked_equal(shown, 0),
        aspect="auto",
        interpolation="nearest",
        cmap="plasma_r",
        # A scale for small weights, with a fixed range, so that steps can be compared.
        norm=PowerNorm(0.4, vmin=0, vmax=1),
    )
    figure.colorbar(image, ax=bars, label="addressing weight", ticks=(0, 0.01, 0.1, 0.3, 1))
    weights.set(
        title=f"{len(rows)} of {len(share)} slots: {share[rows].sum():.1%} of the use",
        xlabel=f"{len(columns)} of {len(addressing)} queries, sorted by their top slot",
        ylabel="slot, sorted by use",
        xticks=[],
    )
    step = -(-len(rows) // MAX_LABELS)
    weights.set_yticks(range(0, len(rows), step), rows[::step])
    bars.barh(range(len(rows)), share[rows], height=1.0, color="#3b6ea5")
    bars.set(title="use")
    bars.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bars.tick_params(labelleft=False)
    return pixels(figure)


def use(addressing: np.ndarray) -> np.ndarray:
    """The share of each slot in all reads, float64 (N,); zeros if no query reads anything."""
    total = addressing.reshape(-1, addressing.shape[-1]).sum(axis=0, dtype="float64")
    return total / max(total.sum(), 1e-12)


def image_pairs(x: np.ndarray, reconstruction: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Images, their reconstructions, and the difference, each in a row."""
    captions = [[f"score {score:.3g}" for score in scores], *[[""] * len(x)] * 2]
    rows = [list(x), list(reconstruction), list(np.abs(x - reconstruction))]
    return _tile_picture(rows, captions, ["input", "reconstruction", "difference"])


def clip_pairs(x: np.ndarray, reconstruction: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The film strip of every clip above that of its reconstruction."""
    rows, labels = [], []
    for clip, rebuilt, score in zip(x, reconstruction, scores, strict=True):
        rows += [_film_strip(clip), _film_strip(rebuilt)]
        labels += [f"input\nscore {score:.3g}", "reconstruction"]
    return _tile_picture(rows, row_labels=labels)


def slot_images(images: np.ndarray, slots: np.ndarray, share: np.ndarray) -> np.ndarray:
    """What slots decode to, each with its number and its share of the use."""
    captions = [f"{slot}: {part:.1%}" for slot, part in zip(slots, share, strict=True)]
    starts = range(0, len(images), GRID_COLUMNS)
    return _tile_picture(
        [list(images[start : start + GRID_COLUMNS]) for start in starts],
        [captions[start : start + GRID_COLUMNS] for start in starts],
    )


def slot_clips(clips: np.ndarray, slots: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The film strips of what slots decode to, each with its number and its share of the use."""
    labels = [f"slot {slot}\n{part:.1%}" for slot, part in zip(slots, share, strict=True)]
    return _tile_picture([_film_strip(clip) for clip in clips], row_labels=labels)


def _tile_picture(
    rows: Sequence[Sequence[np.ndarray]],
    captions: Sequence[Sequence[str]] = (),
    row_labels: Sequence[str] = (),
) -> np.ndarray:
    """A grid of small images.

    Args:
        rows: Rows of images (height, width, channels) of one size, as `in_range` gives them; a
            row may be shorter than the others.
        captions: A text above each image, if given.
        row_labels: A text to the left of each row, if given.
    """
    height, width = _tile_size(*rows[0][0].shape[:2])
    left = ROW_LABELS if row_labels else MARGIN
    above = CAPTION if captions else 0
    row_height, column_width = height + above + MARGIN, width + MARGIN
    total_height = MARGIN + len(rows) * row_height
    total_width = left + max(map(len, rows)) * column_width

    figure = Figure(figsize=(total_width / DPI, total_height / DPI), facecolor="white")
    # One unit is one pixel, counted from the upper left corner.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, total_width), ylim=(total_height, 0))
    axes.set_axis_off()
    axes.autoscale(False)
    for i, row in enumerate(rows):
        y = MARGIN + i * row_height + above
        if row_labels:
            axes.text(left - 8, y + height / 2, row_labels[i], ha="right", va="center", fontsize=8)
        for j, tile in enumerate(row):
            x = left + j * column_width
            box = (x, x + width, y + height, y)
            axes.imshow(tile, extent=box, aspect="auto", interpolation="antialiased")
            if captions:
                middle = x + width / 2
                axes.text(middle, y - 2, captions[i][j], ha="center", va="bottom", fontsize=7)
    return pixels(figure)


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """The size at which an image is shown."""
    factor = max(1, round(SMALLEST_TILE / max(height, width)))
    factor = min(factor, LARGEST_TILE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def in_range(images: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Images (..., channels) of any value range as RGB (..., 3) in [0, 1].

    Three channels are shown as colours; for any other number, their mean is shown in grey.
    """
    low, high = limits
    images = np.clip((images - low) / max(high - low, 1e-12), 0, 1)
    if images.shape[-1] != 3:
        images = np.repeat(images.mean(axis=-1, keepdims=True), 3, axis=-1)
    return images


def _film_strip(clip: np.ndarray) -> list[np.ndarray]:
    """Evenly spaced frames of a clip (frames, height, width, channels), first and last included."""
    chosen = np.linspace(0, len(clip) - 1, min(SHOWN_FRAMES, len(clip)))
    return list(clip[chosen.round().astype(int)])
