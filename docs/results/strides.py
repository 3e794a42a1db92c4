"""What a larger clip stride costs and saves: AUCs and frames per second of a finished run.

    python docs/results/strides.py runs/ped2 -o docs/results/ped2_small/strides.json \
        --plot docs/images/ped2_strides.png

Scores the test videos with a clip at every 1st, 2nd, 4th, 8th, 16th and 32nd frame.
"""

import argparse
import json
import time
from pathlib import Path

STRIDES = (1, 2, 4, 8, 16, 32)
KEYS = {
    "micro_auc_minmax": "micro, each video in [0, 1]",
    "micro_auc_raw": "micro, raw",
    "macro_auc": "macro",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--plot", type=Path, required=True)
    options = parser.parse_args()

    from memae_tf.console import import_tensorflow

    import_tensorflow()
    from memae_tf.config import load_config
    from memae_tf.data import load
    from memae_tf.models import load_detector
    from memae_tf.training.run_directory import RunDirectory

    run = RunDirectory.existing(options.run)
    config = load_config(run.config)
    dataset = load(config.data, config.training.seed)
    detector = load_detector(run.detector)
    rows = [measure(detector, dataset, config.evaluation.frames, stride) for stride in STRIDES]
    options.output.write_text(json.dumps({"config": config.model_dump(mode="json"), "rows": rows}))
    draw(rows).savefig(options.plot, dpi=110)
    for row in rows:
        print(" | ".join(f"{value:.4g}" for value in row.values()))


def measure(detector, dataset, scoring, stride: int) -> dict:
    """The three AUCs and the frames per second with one stride."""
    import numpy as np

    from memae_tf.evaluation.frames import score_videos
    from memae_tf.evaluation.metrics import VideoScores, frame_aucs

    videos = dataset.test.videos
    scoring = scoring.model_copy(update={"clip_stride": stride})
    # The first one compiles.
    score_videos(detector, videos[:1], scoring)
    start = time.perf_counter()
    scores = score_videos(detector, videos, scoring)
    seconds = time.perf_counter() - start
    bounds = np.cumsum([len(video.frames) for video in videos])[:-1]
    labels = np.split(dataset.labels, bounds)
    scored = tuple(
        VideoScores(video.name, own, truth)
        for video, own, truth in zip(videos, scores, labels, strict=True)
    )
    aucs = frame_aucs(scored)
    return {
        "stride": stride,
        **{key: aucs[key] for key in KEYS},
        "frames_per_second": len(dataset.labels) / seconds,
    }


def draw(rows: list[dict]):
    """AUC over frames per second, a point for each stride."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    speed = [row["frames_per_second"] for row in rows]
    for key, name in KEYS.items():
        axes.plot(speed, [row[key] for row in rows], marker="o", label=name)
    for row, x in zip(rows, speed, strict=True):
        axes.annotate(
            f"{row['stride']}",
            (x, row["micro_auc_minmax"]),
            xytext=(0, 6),
            textcoords="offset points",
        )
    axes.set(xscale="log", xlabel="frames per second", ylabel="ROC AUC", title="Clip stride")
    axes.set_xticks(speed, [f"{x:,.0f}" for x in speed])
    axes.minorticks_off()
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
