"""What the way from clips' errors to frames' scores changes: AUCs of a finished run of video.

    python docs/results/ways_of_scoring.py runs/ped2_paper -o ways_of_scoring.json

Papers differ in it. Scores the test videos once, with a clip at every frame, and credits the errors
in each of the ways below, and with each smoothing. PSNR is the logarithm of what squared errors
come to, turned around; it changes only what brings each video to [0, 1].
"""

import argparse
import json
from pathlib import Path

# What a clip says of which of its frames, by what is said and by `evaluation.frames.credit`.
CREDITS = {
    "the mean of all clips that show it": ("clip", None),
    "its own error, the mean over all clips that show it": ("frame", None),
    "the clip whose 9th it is": ("center", None),
    "its own error in the clip whose 9th it is": ("center", "own"),
}
ERRORS = ("absolute", "squared", "PSNR")
# Standard deviations, in frames, of the Gaussian over a video's scores; 0 is none.
SMOOTHINGS = (0.0, 4.0, 16.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args()

    from memae_tf.console import import_tensorflow

    import_tensorflow()
    from memae_tf.config import FrameScoring, load_config
    from memae_tf.data import load
    from memae_tf.models import load_detector
    from memae_tf.training.run_directory import RunDirectory

    run = RunDirectory.existing(options.run)
    config = load_config(run.config)
    dataset = load(config.data, config.training.seed)
    errors = clip_errors(load_detector(run.detector), dataset.test.videos)
    rows = [
        {
            "score of a frame": name,
            "error": error,
            "smoothing": smoothing,
            **aucs(dataset, errors, FrameScoring(credit=credit, smoothing=smoothing), own, error),
        }
        for name, (credit, own) in CREDITS.items()
        for error in ERRORS
        for smoothing in SMOOTHINGS
    ]
    options.output.write_text(json.dumps({"config": config.model_dump(mode="json"), "rows": rows}))
    for row in rows:
        print("|", " | ".join(v if isinstance(v, str) else f"{v:.3f}" for v in row.values()), "|")


def clip_errors(detector, videos) -> list[dict]:
    """Of every clip of each video, its frames' errors, float32 (clips, frames), of two kinds."""
    import numpy as np
    import tensorflow as tf

    from memae_tf.data.clips import Clips

    featurizer, model = detector.featurizer, detector.model

    @tf.function(jit_compile=False, reduce_retracing=True)
    def errors(batch):
        x = featurizer(batch)
        reconstruction = model(x, training=False)
        return {kind: model.frame_error(x, reconstruction, kind) for kind in ERRORS[:2]}

    of_videos = []
    for video in videos:
        clips = Clips.windows([video], featurizer.length, featurizer.frame_stride, 1)
        batches = featurizer.batches(clips, featurizer.batch_size)
        parts = [errors(tf.constant(batch)) for _, batch in batches]
        of_videos.append(
            {kind: np.concatenate([part[kind] for part in parts]) for kind in ERRORS[:2]}
        )
    return of_videos


def aucs(dataset, errors: list[dict], scoring, own: str | None, error: str) -> dict:
    """The three AUCs with one way of scoring."""
    import numpy as np

    from memae_tf.evaluation.frames import FrameScorer
    from memae_tf.evaluation.metrics import VideoScores, frame_aucs

    clips = dataset.test
    bounds = np.cumsum([len(video.frames) for video in clips.videos])[:-1]
    scored = []
    for video, found, labels in zip(
        clips.videos, errors, np.split(dataset.labels, bounds), strict=True
    ):
        scorer = FrameScorer(clips.length, clips.frame_stride, scoring)
        parts = []
        for start, frames in enumerate(found["absolute" if error == "absolute" else "squared"]):
            score = frames[clips.length // 2] if own else frames.mean()
            parts.append(scorer.add(start, score, frames)[1])
        parts.append(scorer.finish(len(video.frames))[1])
        scores = np.concatenate(parts)
        scores = 10 * np.log10(scores) if error == "PSNR" else scores
        scored.append(VideoScores(video.name, scores, labels))
    return frame_aucs(tuple(scored))


if __name__ == "__main__":
    main()
