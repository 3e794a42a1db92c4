"""What a test set says of a video detector epoch by epoch: AUCs of the weights kept on the way.

    python benchmarks/train_elsewhere.py pack configs/ped2_paper.yaml ped2.npz
    python benchmarks/train_elsewhere.py pack --test configs/ped2_paper.yaml test.npz
    export KERAS_BACKEND=jax
    python benchmarks/train_elsewhere.py fit ped2.npz weights.npz --every 5
    python benchmarks/train_elsewhere.py errors test.npz weights_*.npz weights.npz test_errors.npz
    python benchmarks/train_elsewhere.py errors ped2.npz weights.npz errors.npz
    unset KERAS_BACKEND
    python docs/results/epochs.py MemAE test_errors.npz errors.npz -o epochs.json --plot epochs.png

Several detectors, of the same data, are given by three arguments each. With averaged weights, what
the last file has counts, too. The figures of an epoch that was chosen by them are no results.
"""

import argparse
import json
from pathlib import Path

import numpy as np

FIGURES = {
    "micro_auc_minmax": "micro, min-max",
    "micro_auc_raw": "micro, raw",
    "macro_auc": "macro",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "detectors", nargs="+", help="name, errors of the test clips and of the training clips"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--plot", type=Path, required=True, help="PNG file")
    options = parser.parse_args()
    if len(options.detectors) % 3:
        parser.error("detectors: give three arguments for each")

    from memae_tf.console import import_tensorflow

    import_tensorflow()
    names, *files = (options.detectors[i::3] for i in range(3))
    found = {
        name: measure(np.load(test), np.load(train))
        for name, test, train in zip(names, *files, strict=True)
    }
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    plot(found, options.plot)


def measure(test, train) -> dict:
    """Figures of the weights in files of `train_elsewhere.py errors`."""
    from memae_tf.config import parse_config
    from memae_tf.data import load

    configuration = json.loads(str(test["config"]))
    config = parse_config(configuration)
    if config.evaluation.frames.credit == "frame":
        raise SystemExit("evaluation.frames.credit=frame: these errors are of whole clips")
    dataset = load(config.data, config.training.seed)
    # The last file is that of the last epoch once more.
    *epochs, _ = (evaluated(dataset, config, errors) for errors in test["errors"])
    losses = [entry["reconstruction"] for entry in json.loads(str(test["history"]))]
    figures = {
        "config": configuration,
        "losses": losses,
        "epochs": [
            {"epoch": int(epoch), **scores}
            for epoch, scores in zip(test["epochs"][:-1], epochs, strict=True)
        ],
        "last": evaluated(dataset, config, test["errors"][-1], train["errors"][-1]),
    }
    if "averages" in test:
        figures["averages"] = evaluated(dataset, config, test["averages"], train["averages"])
    return figures


def evaluated(dataset, config, test_errors, train_errors=None) -> dict:
    """What metrics.json says of clips' errors; without those of training, of ranking only."""
    from memae_tf.evaluation.evaluate import Scores
    from memae_tf.evaluation.evaluate import measure as measured
    from memae_tf.evaluation.metrics import VideoScores, frame_aucs

    lengths = [len(video.frames) for video in dataset.test.videos]
    scores = frame_scores(dataset.test, test_errors, config.evaluation.frames)
    videos = tuple(
        VideoScores(video.name, own, labels)
        for video, own, labels in zip(
            dataset.test.videos,
            scores,
            np.split(dataset.labels, np.cumsum(lengths)[:-1]),
            strict=True,
        )
    )
    if train_errors is None:
        return frame_aucs(videos)
    train = np.concatenate(frame_scores(dataset.train, train_errors, config.evaluation.frames))
    test, labels = map(np.concatenate, zip(*(video.scored() for video in videos), strict=True))
    found = Scores(train[np.isfinite(train)], test, labels, videos)
    return measured(found, dataset, config.evaluation)


def frame_scores(clips, errors: np.ndarray, scoring) -> list[np.ndarray]:
    """The scores of the frames of each video, where every frame of a clip counts alike."""
    from memae_tf.evaluation.frames import FrameScorer

    found = []
    for number, video in enumerate(clips.videos):
        scorer = FrameScorer(clips.length, clips.frame_stride, scoring)
        own = clips.places[:, 0] == number
        parts = [
            scorer.add(int(start), error, np.full(clips.length, error))[1]
            for start, error in zip(clips.places[own, 1], errors[own], strict=True)
        ]
        found.append(np.concatenate([*parts, scorer.finish(len(video.frames))[1]]))
    return found


def plot(found: dict, path: Path) -> None:
    """Draws loss and figures over the epochs; what averaged weights give is a dot at the end."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained", sharex=True)
    axes = axes.flat
    axes[0].set(title="reconstruction loss of training", yscale="log")
    for axis, title in zip(axes[1:], FIGURES.values(), strict=True):
        axis.set(title=f"ROC AUC: {title}")
    for name, values in found.items():
        epochs = [entry["epoch"] for entry in values["epochs"]]
        (line,) = axes[0].plot(range(1, len(values["losses"]) + 1), values["losses"], label=name)
        color = line.get_color()
        for axis, key in zip(axes[1:], FIGURES, strict=True):
            axis.plot(epochs, [entry[key] for entry in values["epochs"]], color=color)
            if "averages" in values:
                axis.plot(epochs[-1], values["averages"][key], "o", color=color)
    axes[0].legend()
    for axis in axes[2:]:
        axis.set_xlabel("epoch")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
