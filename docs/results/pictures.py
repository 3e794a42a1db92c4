"""How systems rebuild the same normal and abnormal images: a row of pictures for each system.

    python docs/results/pictures.py configs/benchmarks/images.yaml \
        --only dataset=mnist --only class=8 --only seed=0 -o docs/images/mnist_systems.png

Trains every system of the selection that has a reconstruction (one class and one seed of a grid of
images), writes the picture, and prints the mean reconstruction errors.
"""

import argparse
from pathlib import Path

import numpy as np

SHOWN = 8
WITHOUT_RECONSTRUCTION = ("ocsvm", "kde", "pixelcnn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("grid", type=Path)
    parser.add_argument("--only", action="append", default=[], metavar="AXIS=CHOICE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()

    from memae_tf.config import load_benchmark
    from memae_tf.console import import_tensorflow

    import_tensorflow()
    from memae_tf.training.grid import cells, select

    grid = select(cells(load_benchmark(options.grid), options.grid), options.only)
    grid = [cell for cell in grid if cell.config.model.name not in WITHOUT_RECONSTRUCTION]
    systems = {dict(cell.choices)["system"]: cell.config for cell in grid}
    if len(systems) < len(grid):
        parser.error("--only: choose one data set, one class and one seed")
    rows, labels = {}, None
    for name, config in systems.items():
        images, rebuilt, labels = rebuild(config)
        rows.setdefault("image", images)
        rows[name] = rebuilt
    draw(rows, labels).savefig(options.output, format="png", dpi=110)


def rebuild(config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some test images as a trained system sees them and as it rebuilds them, and their labels."""
    import keras
    from keras import ops

    from memae_tf.baselines import build_baseline
    from memae_tf.config import ModelSection
    from memae_tf.data import load
    from memae_tf.training.fit import featurize, fit

    dataset = load(config.data, config.training.seed)
    rng = np.random.default_rng(config.training.seed)
    places = np.concatenate(
        [rng.permutation(np.flatnonzero(dataset.labels == label))[:SHOWN] for label in (0, 1)]
    )
    x = featurize(dataset.featurizer, dataset.test)
    keras.utils.set_random_seed(config.training.seed)
    if isinstance(config.model, ModelSection):
        model = fit(config.model, config.training, dataset)[0].model

        def reconstruct(part):
            return ops.convert_to_numpy(model(part, training=False))
    else:
        train = featurize(dataset.featurizer, dataset.train)
        baseline = build_baseline(config.model, train.shape[1:], config.training)
        baseline.fit(train)
        reconstruct = baseline.reconstruct
    errors = np.concatenate(
        [
            np.square(part - reconstruct(part)).sum(axis=(1, 2, 3))
            for part in np.array_split(x, -(-len(x) // 500))
        ]
    )
    normal, abnormal = (errors[dataset.labels == label].mean() for label in (0, 1))
    name = getattr(config.model, "variant", config.model.name)
    print(f"{name}: mean error {normal:.1f} normal, {abnormal:.1f} abnormal", flush=True)
    show = dataset.featurizer.inverse
    return show(x[places]), show(reconstruct(x[places])), dataset.labels[places]


def draw(rows: dict[str, np.ndarray], labels: np.ndarray):
    """A row of images for each system, normal ones on the left."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.75 * len(rows) + 0.4), layout="constrained")
    grid = figure.subplots(len(rows), 2)
    for (name, images), line in zip(rows.items(), grid, strict=True):
        for label, axes in enumerate(line):
            strip = np.concatenate(list(images[labels == label]), axis=1)
            axes.imshow(np.broadcast_to(strip, (*strip.shape[:2], 3)), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    grid[0, 0].set_title("normal")
    grid[0, 1].set_title("abnormal")
    return figure


if __name__ == "__main__":
    main()
