import dataclasses
import html
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import metadata as hparams_metadata

from memae_tf.config import parse_config
from memae_tf.data import Dataset
from memae_tf.evaluation.evaluate import Scores
from memae_tf.layers import MemoryUnit, RecordFeaturizer
from memae_tf.models import MemAE, conv2d, conv3d, dense
from memae_tf.training.monitoring.evaluation_summary import write_evaluation
from memae_tf.training.monitoring.memory_health import diagnose
from memae_tf.training.monitoring.monitor import Monitor
from memae_tf.training.monitoring.pictures import heat_map, in_range
from memae_tf.training.monitoring.pictures import use as share_of_use
from memae_tf.training.monitoring.record_tables import escaped, markdown_table

EPOCH = {
    "epoch": 1,
    "loss": 3.0,
    "reconstruction": 2.75,
    "penalty": 0.25,
    "learning_rate": 0.001,
    "seconds": 2.0,
    "samples_per_second": 20.0,
}
SHAPES = {
    "dense": (6,),
    "sample": (12, 10, 3),
    "position": (12, 10, 1),
    "clip": (4, 16, 16, 1),
}


class Events:
    """What was written to a folder."""

    def __init__(self, directory: Path):
        self.accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0})
        self.accumulator.Reload()
        self.tags = set(self.accumulator.Tags()["tensors"])

    def all(self, tag: str) -> dict[int, np.ndarray]:
        """The values of a tag by step."""
        events = self.accumulator.Tensors(tag)
        return {event.step: tf.make_ndarray(event.tensor_proto) for event in events}

    def last(self, tag: str) -> np.ndarray:
        return list(self.all(tag).values())[-1]

    def text(self, tag: str) -> str:
        return self.last(tag).item().decode()

    def image(self, tag: str) -> np.ndarray:
        width, height, png = self.last(tag)
        image = tf.io.decode_png(png).numpy()
        assert image.shape == (int(height), int(width), 3)
        return image


def make(kind: str = "dense", num_slots: int = 5, **memory) -> tuple[MemAE, np.ndarray]:
    """A tiny model, and data for it."""
    keras.utils.set_random_seed(0)
    shape = SHAPES[kind]
    match kind:
        case "dense":
            encoder, decoder = dense(6, hidden=(8,), code=3)
        case "sample" | "position":
            encoder, decoder = conv2d(shape, (4, 4), (3, 3), (2, 2), queries=kind)
        case "clip":
            encoder, decoder = conv3d(shape, (4, 4))
    model = MemAE(encoder, MemoryUnit(num_slots, **memory), decoder)
    model.build((None, *shape))
    x = np.random.default_rng(0).uniform(-1, 1, (40, *shape)).astype("float32")
    return model, x


def record_featurizer() -> tuple[RecordFeaturizer, np.ndarray]:
    """A featurizer of 6 features, and those of some records."""
    rng = np.random.default_rng(0)
    records = {
        "bytes": rng.integers(0, 2000, 40).astype("float32"),
        "a|b": rng.uniform(size=40).astype("float32"),
        "flag": rng.choice(["SF", "S0"], 40).astype(object),
        "land": rng.integers(0, 2, 40).astype("float32"),
    }
    featurizer = RecordFeaturizer(["bytes", "a|b"], ["flag", "land"])
    featurizer.adapt(records)
    return featurizer, np.asarray(featurizer(records))


def run(directory, model, x, epochs=1, **arguments) -> Events:
    monitor = Monitor(directory, model, x, 0, **arguments)
    for epoch in range(1, epochs + 1):
        monitor.write({**EPOCH, "epoch": epoch})
    monitor.finish()
    return Events(directory)


def test_scalars_are_those_of_the_history_and_of_the_memory(tmp_path):
    model, x = make()
    monitor = Monitor(tmp_path, model, x, 0)
    monitor.write({**EPOCH, "validation_loss": 4.0})
    monitor.close()
    events = Events(tmp_path)
    expected = {
        "loss/total": 3.0,
        "loss/reconstruction": 2.75,
        "loss/penalty": 0.25,
        "loss/validation": 4.0,
        "training/learning_rate": 0.001,
        "training/seconds": 2.0,
        "training/samples_per_second": 20.0,
    }
    health = model.memory.health(model.addressing(x))
    expected |= {f"memory/{name}": value for name, value in health.items()}
    for tag, value in expected.items():
        assert events.all(tag)[1] == pytest.approx(value, rel=1e-5), tag


def test_histograms_are_of_the_addressing(tmp_path):
    model, x = make()
    events = run(tmp_path, model, x)
    addressing = model.addressing(x)
    # Rows of a histogram are left edge, right edge, count.
    largest = events.last("addressing/largest_weight")
    assert largest[:, 2].sum() == len(x)
    assert largest[0, 0] == pytest.approx(addressing.max(axis=1).min(), rel=1e-4)
    assert largest[-1, 1] == pytest.approx(addressing.max(), rel=1e-4)
    use = events.last("addressing/use_per_slot")
    assert use[:, 2].sum() == 5
    assert use[-1, 1] == pytest.approx(5 * addressing.mean(axis=0).max(), rel=1e-4)


@pytest.mark.parametrize("kind", ["sample", "position", "clip"])
def test_pictures_of_images_and_clips(tmp_path, kind):
    model, x = make(kind)
    events = run(tmp_path, model, x)
    assert events.image("addressing/heat_map").shape == (480, 640, 3)
    for tag in ("reconstruction/typical", "reconstruction/worst", "memory/slots"):
        image = events.image(tag)
        assert min(image.shape[:2]) >= 72
        assert np.ptp(image) > 0
    if kind == "clip":
        # A row for each of the 5 slots, 4 frames in a row.
        height, width = events.image("memory/slots").shape[:2]
        assert height == 6 + 5 * (64 + 6)
        assert width == 110 + 4 * (64 + 6)


def test_tables_of_records(tmp_path):
    featurizer, x = record_featurizer()
    model, _ = make()
    events = run(tmp_path, model, x, featurizer=featurizer)

    lines = events.text("reconstruction/worst").splitlines()
    scores = np.sort(model.score(x))[::-1][:4]
    head = next(line for line in lines if line.startswith("| field"))
    assert head == f"| field | {' | '.join(f'score {score:.4g}' for score in scores)} |"
    assert {line.split(" | ")[0] for line in lines[-4:]} == {
        "| bytes",
        "| a&#124;b",
        "| flag",
        "| land",
    }
    flags = next(line for line in lines if line.startswith("| flag")).split(" | ")[1:]
    worst = featurizer.inverse(x[np.argsort(model.score(x))[::-1][:4]])
    assert all(str(flag) in cell for flag, cell in zip(worst["flag"], flags, strict=True))

    lines = events.text("memory/slots").splitlines()
    use = share_of_use(model.addressing(x))
    first, *_, last = [line for line in lines if line[2:3].isdigit()]
    assert first.startswith(f"| {use.argmax()} ({use.max():.1%}) |")
    assert last.startswith(f"| {use.argmin()} ({use.min():.1%}) |")
    decoded = featurizer.inverse(model.decoder(model.memory.get_weights()[0]))
    assert f"flag = {decoded['flag'][use.argmax()]}" in first


def test_vectors_without_a_featurizer_have_numbered_features(tmp_path):
    model, x = make()
    events = run(tmp_path, model, x)
    assert "| feature 5 |" in events.text("reconstruction/typical")
    assert "feature 0 = " in events.text("memory/slots")


def test_pictures_come_at_growing_intervals_and_at_the_end(tmp_path):
    events = run(tmp_path, *make("sample"), epochs=6)
    assert list(events.all("memory/slots")) == [1, 2, 4, 6]
    assert list(events.all("memory/perplexity")) == [1, 2, 3, 4, 5, 6]


def test_pictures_are_not_drawn_twice_at_the_end(tmp_path):
    events = run(tmp_path, *make("sample"), epochs=4)
    assert list(events.all("memory/slots")) == [1, 2, 4]


def test_projector_has_slots_and_encodings(tmp_path):
    model, x = make("position")
    run(tmp_path, model, x)
    config = projector.ProjectorConfig()
    text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), config)
    embedding = config.embeddings[0]
    points = np.loadtxt(tmp_path / embedding.tensor_path, delimiter="\t")
    head, *lines = (tmp_path / embedding.metadata_path).read_text().splitlines()
    assert list(embedding.tensor_shape) == list(points.shape)
    assert len(points) == len(lines) == 5 + 40 * 9
    assert head.split("\t") == ["kind", "slot", "use", "top_slot", "score"]

    slots = model.memory.get_weights()[0]
    np.testing.assert_allclose(
        points[:5], slots / np.linalg.norm(slots, axis=1, keepdims=True), rtol=1e-4
    )
    addressing = model.addressing(x).reshape(-1, 5)
    kind, slot, use, _, _ = lines[2].split("\t")
    assert (kind, slot) == ("slot", "2")
    assert float(use) == pytest.approx(addressing.mean(axis=0)[2], rel=1e-4)
    kind, slot, _, top, score = lines[5 + 100].split("\t")
    assert (kind, slot, int(top)) == ("encoding", "", addressing[100].argmax())
    assert float(score) == pytest.approx(model.score(x)[100 // 9], rel=1e-4)


def test_what_reads_nothing_has_no_top_slot_in_the_projector(tmp_path):
    model, x = make(shrink=4, fallback="zero")
    run(tmp_path, model, x)
    _, *lines = (tmp_path / "memory_metadata.tsv").read_text().splitlines()
    nothing = ~model.addressing(x).any(axis=1)
    assert 0 < nothing.sum() < len(x)
    assert [line.split("\t")[3] == "" for line in lines[5:]] == list(nothing)


def test_dot_products_are_projected_as_they_are(tmp_path):
    model, x = make(similarity="dot")
    run(tmp_path, model, x)
    points = np.loadtxt(tmp_path / "memory.tsv", delimiter="\t")
    np.testing.assert_allclose(points[:5], model.memory.get_weights()[0], rtol=1e-4)


@pytest.mark.parametrize("kind", ["dense", "position"])
def test_an_autoencoder_without_memory(tmp_path, kind):
    model, x = make(kind)
    model = MemAE(model.encoder, None, model.decoder)
    model.build((None, *SHAPES[kind]))
    events = run(tmp_path, model, x)
    assert {"loss/total", "reconstruction/typical", "reconstruction/worst"} <= events.tags
    assert not any(tag.startswith(("memory", "addressing")) for tag in events.tags)
    lines = (tmp_path / "memory_metadata.tsv").read_text().splitlines()
    assert len(np.loadtxt(tmp_path / "memory.tsv", delimiter="\t")) == len(lines) - 1


def test_only_a_sample_of_large_data_is_kept(tmp_path):
    model, _ = make()
    x = np.random.default_rng(0).normal(size=(10_000, 6)).astype("float32")
    first, same, other = (Monitor(tmp_path, model, x, seed).samples for seed in (0, 0, 1))
    assert len(first) == 4096
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_fewer_samples_where_they_have_many_queries(tmp_path):
    model, x = make("position", num_slots=2000)
    x = np.broadcast_to(x[:1], (10_000, *x.shape[1:]))
    assert len(Monitor(tmp_path, model, x, 0).samples) == 2**25 // (9 * 2000)


def test_mixed_precision(tmp_path):
    encoder, decoder = dense(6, (8,), 3, dtype="mixed_bfloat16")
    memory = MemoryUnit(5, dtype="mixed_bfloat16")
    model = MemAE(encoder, memory, decoder, dtype="mixed_bfloat16")
    model.build((None, 6))
    assert "memory/slots" in run(tmp_path, model, make()[1]).tags


@pytest.mark.parametrize("kind", ["dense", "sample"])
def test_a_model_of_nans_is_no_error(tmp_path, kind):
    model, x = make(kind)
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    assert "diverged" in run(tmp_path, model, x).text("memory/diagnosis")


# Pictures


@pytest.mark.parametrize("num_slots", [2, 50, 2000])
def test_heat_map_of_any_number_of_slots(num_slots):
    addressing = np.random.default_rng(0).dirichlet(np.full(num_slots, 0.05), 700)
    image = heat_map(addressing.astype("float32"))
    assert image.shape == (480, 640, 3)
    assert image.dtype == np.uint8


def test_heat_map_of_queries_that_read_nothing():
    assert heat_map(np.zeros((10, 4), "float32")).shape == (480, 640, 3)


def test_images_of_any_number_of_channels_become_rgb():
    images = np.array([[[[-1.0, 3.0]]]])
    np.testing.assert_allclose(in_range(images, (-1, 1)), np.full((1, 1, 1, 3), 0.5))
    assert in_range(np.zeros((2, 4, 4, 1)), (0, 0)).shape == (2, 4, 4, 3)


@pytest.mark.parametrize("text", ["a\nb", "__init__", "_id_", "a&lt;b", "<b>", "a|b", "`x`"])
def test_a_text_is_shown_as_it_is(text):
    shown = escaped(text)
    # Entities alone, which neither Markdown nor HTML takes for more than a character.
    assert not set("\n_<|`*[\\") & set(shown)
    assert html.unescape(shown) == " ".join(text.split())


def test_markdown_table():
    assert markdown_table([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


# Evaluation

CONFIG = parse_config(
    {
        "data": {"name": "tabular", "train": "x.csv"},
        "model": {"name": "dense", "hidden": [8, 4]},
        "training": {"epochs": 3},
    }
)
METRICS = {
    "kept_epoch": 3,
    "threshold": 2.0,
    "roc_auc": 0.9,
    "average_precision": 0.8,
    "f1": 0.7,
}
SCORES = Scores(
    train=np.array([1.0, 2.0], "float32"),
    test=np.array([1.0, 2.0, 3.0, 4.0, 100.0], "float32"),
    labels=np.array([0, 0, 1, 0, 1]),
)


def dataset() -> Dataset:
    featurizer, _ = record_featurizer()
    return Dataset("things", "split", False, featurizer, {}, None, SCORES.labels, "train_quantile")


def hparams_of(events: Events) -> dict:
    metadata = events.accumulator.SummaryMetadata(hparams_metadata.SESSION_START_INFO_TAG)
    content = metadata.plugin_data.content
    info = hparams_metadata.parse_session_start_info_plugin_data(content)
    values = {}
    for name, value in info.hparams.items():
        values[name] = getattr(value, value.WhichOneof("kind"))
    return values


def test_evaluation_writes_hyperparameters_metrics_and_curves(tmp_path):
    write_evaluation(tmp_path, CONFIG, METRICS, SCORES, dataset())
    events = Events(tmp_path / "evaluation")
    for name in ("roc_auc", "average_precision", "f1"):
        assert events.all(f"evaluation/{name}")[3] == pytest.approx(METRICS[name])
    values = hparams_of(events)
    assert values["model.hidden"] == "8, 4"
    assert values["model.memory.num_slots"] == 50
    assert values["training.epochs"] == 3
    assert values["data.protocol"] == "split"
    assert "model.memory.scale" not in values  # it has no value
    assert not any("x.csv" in str(value) for value in values.values())
    for tag in ("evaluation/scores", "evaluation/curves"):
        assert events.image(tag).shape[1] == 900


def test_pr_curve_is_exact_at_its_thresholds(tmp_path):
    write_evaluation(tmp_path, CONFIG, METRICS, SCORES, dataset())
    curve = Events(tmp_path / "evaluation").last("evaluation/precision_recall/pr_curves")
    tp, fp, tn, fn, precision, recall = curve
    # At 0 the scores from the lowest anomaly's on are flagged: 3, 4 and 100; and all below too,
    # as no threshold is lower.
    assert (tp[0], fp[0], tn[0], fn[0]) == (2, 3, 0, 0)
    # Above it, what scores more than the anomaly at 3: 4 and 100.
    assert (tp[1], fp[1], tn[1], fn[1]) == (1, 1, 2, 1)
    assert (precision[1], recall[1]) == (0.5, 0.5)


def test_a_second_evaluation_replaces_the_first(tmp_path):
    write_evaluation(tmp_path, CONFIG, METRICS, SCORES, dataset())
    # Event files are named by the second.
    time.sleep(1.1)
    write_evaluation(tmp_path, CONFIG, {**METRICS, "f1": 0.5}, SCORES, dataset())
    assert len(list((tmp_path / "evaluation").glob("events*"))) == 1
    events = Events(tmp_path / "evaluation")
    assert events.last("evaluation/f1") == pytest.approx(0.5)


def test_without_labels_there_are_only_hyperparameters(tmp_path):
    metrics = {**METRICS, "roc_auc": None, "average_precision": None, "f1": None}
    scores = dataclasses.replace(SCORES, test=None, labels=None)
    write_evaluation(tmp_path, CONFIG, metrics, scores, dataset())
    events = Events(tmp_path / "evaluation")
    assert hparams_of(events)["model.name"] == "dense"
    assert not any("curve" in tag or "roc" in tag for tag in events.tags)


# Diagnosis

SOUND = {
    "live_share": 1.0,
    "slots_per_query": 1.6,
    "slots_used": 41,
    "dead_slots": 9,
    "perplexity": 2.8,
    "largest_weight": 0.93,
}


def test_a_sound_memory():
    assert diagnose(SOUND, 50) is None
    # Without shrinkage every query keeps every slot.
    soft = {"slots_per_query": 50.0, "slots_used": 50, "perplexity": 30.0, "largest_weight": 0.08}
    assert diagnose({**SOUND, **soft}, 50) is None
    # With 2 slots, one may well have nine tenths of the use.
    assert diagnose({**SOUND, "slots_used": 2, "perplexity": 1.38}, 2) is None


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ({"live_share": 0.03}, r"only 3% of the queries keep a slot .*lower model\.memory\.shrink"),
        ({"slots_used": 1, "perplexity": 1.0}, r"all queries use 1 of 50 slots"),
        ({"largest_weight": np.nan}, r"training has diverged"),
        ({"perplexity": 1.2}, r"one slot has nearly all of the use \(perplexity 1\.20"),
        (
            {"slots_per_query": 50.0, "largest_weight": 0.021},
            r"the same average of all 50 slots .* 1\.05 times .*raise model\.memory\.scale",
        ),
    ],
)
def test_collapsed_memories_by_hand(health, words):
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(diagnose({**SOUND, **health}, 50))
    assert "\n" not in diagnose({**SOUND, **health}, 50)


def health_of(memory: MemoryUnit, slots: np.ndarray, queries: np.ndarray) -> str | None:
    memory.build(queries.shape)
    memory.memory.assign(slots)
    addressing = memory(queries, return_addressing=True)[1]
    return diagnose(memory.health(addressing), memory.num_slots)


@pytest.mark.parametrize("fallback", ["softmax", "zero"])
def test_memories_that_really_collapsed(fallback):
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(256, 8)).astype("float32")
    slots = rng.uniform(-0.35, 0.35, (200, 8)).astype("float32")
    assert health_of(MemoryUnit(200, fallback=fallback), slots, queries) is None

    # Dot products of small vectors never weigh five times the mean.
    dot = MemoryUnit(200, similarity="dot", scale=0.5, shrink=5.0, fallback=fallback)
    assert "keep a slot after shrinkage" in health_of(dot, slots, queries)

    # One slot that is far larger than the others takes it all.
    large = slots.copy()
    large[7] = 100.0
    dot = MemoryUnit(200, similarity="dot", fallback=fallback)
    assert "of 200 slots" in health_of(dot, large, np.abs(queries))

    # Slots that are all the same are addressed all the same.
    same = np.broadcast_to(slots[:1], slots.shape)
    flat = MemoryUnit(200, shrink=0.0, fallback=fallback)
    assert "the same average of all 200 slots" in health_of(flat, same, queries)


def test_a_collapse_is_said_in_tensorboard(tmp_path):
    model, x = make(num_slots=50, similarity="dot", scale=1e-3, shrink=5.0)
    monitor = Monitor(tmp_path, model, x, 0)
    assert monitor.diagnosis() is None
    monitor.write(EPOCH)
    monitor.close()
    assert "only 0% of the queries" in monitor.diagnosis()
    assert Events(tmp_path).text("memory/diagnosis") == monitor.diagnosis()
