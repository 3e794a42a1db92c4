"""A run in TensorBoard: losses, speed, and what the memory does."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from keras import ops

from memae_tf.errors import UserError
from memae_tf.files import written
from memae_tf.layers import RecordFeaturizer
from memae_tf.models import MemAE
from memae_tf.training.monitoring import pictures
from memae_tf.training.monitoring.memory_health import diagnose
from memae_tf.training.monitoring.pictures import use
from memae_tf.training.monitoring.projector import write_projector
from memae_tf.training.monitoring.record_tables import PlainFields, reconstruction_table, slot_table

# Enough samples for steady figures, few enough to cost nothing beside an epoch.
NUM_SAMPLES = 4096
# Fewer samples where they are large or have many queries: this many numbers at a time and in all,
# but never less than the least number of samples.
BATCH_NUMBERS, ALL_NUMBERS = 2**22, 2**25
LEAST_SAMPLES = 16
# The passes of a 3-D net over more would take long beside an epoch.
MOST_CLIPS = 64

SCALARS = {
    "loss": "loss/total",
    "reconstruction": "loss/reconstruction",
    "penalty": "loss/penalty",
    "validation_loss": "loss/validation",
    "learning_rate": "training/learning_rate",
    "seconds": "training/seconds",
    "samples_per_second": "training/samples_per_second",
    "steps_per_second": "training/steps_per_second",
}

# How many pictures or columns are shown; slots by the rank of samples.
SHOWN_IMAGES, SHOWN_CLIPS, SHOWN_RECORDS = 8, 4, 4
SHOWN_SLOTS = {2: 50, 4: 64, 5: 16}


class Monitor:
    """Writes losses, speed, and what the memory does after every epoch.

    Scalars and histograms are written every time. Pictures and tables (the addressing as a heat
    map, inputs beside reconstructions, what the slots decode to) take some tenths of a second: they
    are written after the epochs 1, 2, 4, 8, ..., or the first one written after such an epoch, and
    at the end for the weights that are kept, under their epoch. Slots and encodings for the
    projector are written at the end only.

    All of this uses up to 4,096 training samples, always the same ones; fewer where they are large
    or have many queries. Images (height, width, channels) and clips (frames, height, width,
    channels) are shown as pictures, vectors as tables.

    The model is not called by Keras's `predict`, which waits for all workers, where there are
    several.

    Args:
        directory: The folder for the event files.
        model: The model in training.
        x: Training data, an array (samples, ...) or `TrainingSamples`.
        seed: Seed of the choice of samples.
        featurizer: The `RecordFeaturizer` that made the features, if one did; with it, tables show
            fields in their original units.
    """

    def __init__(self, directory: Path, model: MemAE, x: np.ndarray, seed: int, featurizer=None):
        self.directory = Path(directory)
        self.model = model
        self.writer = tf.summary.create_file_writer(str(directory))
        size = min(len(x), sample_budget(model, x.shape[1:]))
        chosen = np.random.default_rng(seed).choice(len(x), size, replace=False)
        self.samples = np.asarray(x[np.sort(chosen)])
        self.limits = float(self.samples.min()), float(self.samples.max())
        self.fields = featurizer
        if not isinstance(featurizer, RecordFeaturizer):
            self.fields = PlainFields(x.shape[-1])
        self.health = None
        self.epoch = self.shown_epoch = 0

    # In a training that diverges, figures become infinite; the loop reports that.
    @np.errstate(over="ignore", invalid="ignore")
    def write(self, epoch: dict) -> None:
        """Writes one entry of the history; its `epoch`, from 1, is the step."""
        before, self.epoch = self.epoch, epoch["epoch"]
        with self.writer.as_default(step=self.epoch):
            for key, tag in SCALARS.items():
                if key in epoch:
                    tf.summary.scalar(tag, epoch[key])
            addressing = self._addressing()
            if addressing is not None:
                self._show_health(addressing)
            # There is a power of 2 between the epoch written before, exclusive, and this one.
            if self.epoch.bit_length() > before.bit_length():
                self._show(addressing)
        self.writer.flush()

    @np.errstate(over="ignore", invalid="ignore")
    def finish(self, kept_epoch: int | None = None) -> None:
        """Shows the model as it is kept, writes the projector's files, and closes.

        Args:
            kept_epoch: The epoch that the model's weights are from; by default the last one.
        """
        addressing = self._addressing()
        if addressing is not None:
            self.health = self.model.memory.health(addressing)
        # If this process wrote nothing, an earlier one has shown the epochs already.
        if self.epoch > 0:
            self.epoch = kept_epoch or self.epoch
            if self.shown_epoch != self.epoch:
                with self.writer.as_default(step=self.epoch):
                    self._show(addressing)
        self._write_projector(addressing)
        self.close()

    def close(self) -> None:
        self.writer.close()

    def diagnosis(self) -> str | None:
        """What is wrong with the memory by its last figures, see `diagnose`."""
        if self.health is None:
            return None
        return diagnose(self.health, self.model.memory.num_slots)

    # The parts.

    def _show_health(self, addressing: np.ndarray) -> None:
        self.health = self.model.memory.health(addressing)
        for name, value in self.health.items():
            tf.summary.scalar(f"memory/{name}", value)
        queries = _as_queries(addressing)
        tf.summary.histogram("addressing/largest_weight", queries.max(axis=1))
        tf.summary.histogram(
            "addressing/use_per_slot",
            use(queries) * queries.shape[1],
            description="Share of each slot in all reads, in units of 1/N: 1 is an even use.",
        )

    def _show(self, addressing: np.ndarray | None) -> None:
        """All pictures and tables."""
        self.shown_epoch = self.epoch
        self._show_reconstructions(self._scores())
        if addressing is not None:
            queries = _as_queries(addressing)
            tf.summary.image("addressing/heat_map", pictures.heat_map(queries)[None])
            self._show_slots(use(queries))
            diagnosis = self.diagnosis()
            if diagnosis is not None:
                tf.summary.text("memory/diagnosis", diagnosis)

    def _show_reconstructions(self, scores: np.ndarray) -> None:
        """Inputs beside reconstructions: with scores in the middle half, and with the largest.

        Of samples with the same score, such as duplicates, one is shown.
        """
        rank = self.samples.ndim
        number = {2: SHOWN_RECORDS, 4: SHOWN_IMAGES, 5: SHOWN_CLIPS}.get(rank)
        if number is None:
            return
        _, order = np.unique(scores, return_index=True)
        middle = np.linspace(0.25, 0.75, number) * (len(order) - 1)
        typical = order[np.unique(middle.astype(int))]
        choices = {"typical": typical, "worst": order[::-1][:number]}
        for name, chosen in choices.items():
            x, reconstruction = self.samples[chosen], self._run(self.model, self.samples[chosen])
            tag = f"reconstruction/{name}"
            if rank == 2:
                table = reconstruction_table(self.fields, x, reconstruction, scores[chosen])
                tf.summary.text(tag, table)
                continue
            draw = pictures.image_pairs if rank == 4 else pictures.clip_pairs
            picture = draw(
                pictures.in_range(x, self.limits),
                pictures.in_range(reconstruction, self.limits),
                scores[chosen],
            )
            tf.summary.image(tag, picture[None])

    def _show_slots(self, share: np.ndarray) -> None:
        """What the slots with the most use decode to."""
        rank = self.samples.ndim
        if rank not in SHOWN_SLOTS:
            return
        slots = np.argsort(-share, kind="stable")[: SHOWN_SLOTS[rank]]
        reads = self.model.slot_reads(slots, self.samples.shape[1:])
        decoded = self._run(self.model.decoder, reads)
        if rank == 2:
            text = f"{len(slots)} of {len(share)} slots, sorted by their share of the use.\n\n"
            table = slot_table(self.fields, decoded, slots, share[slots])
            tf.summary.text("memory/slots", text + table)
            return
        draw = pictures.slot_images if rank == 4 else pictures.slot_clips
        picture = draw(pictures.in_range(decoded, self.limits), slots, share[slots])
        tf.summary.image("memory/slots", picture[None])

    def _write_projector(self, addressing: np.ndarray | None) -> None:
        encodings = self._run(self.model.encoder, self.samples)
        scores = np.repeat(self._scores(), math.prod(encodings.shape[1:-1]))
        encodings = _as_queries(encodings)
        if addressing is None:
            write_projector(self.directory, encodings, scores)
            return
        memory = self.model.memory
        write_projector(
            self.directory,
            encodings,
            scores,
            slots=_to_numpy(memory.memory),
            addressing=_as_queries(addressing),
            # A cosine depends on directions only; at unit length a slot is near its encodings.
            unit_length=getattr(memory, "similarity", None) == "cosine",
        )

    # The model, batch by batch.

    def _addressing(self) -> np.ndarray | None:
        """The addressing of the samples (samples, ..., N); `None` without a memory."""
        if self.model.memory is None:
            return None

        def address(x):
            code = self.model.encode(x)
            return self.model.memory(code, return_addressing=True)[1]

        return self._run(address, self.samples)

    def _scores(self) -> np.ndarray:
        return self._run(
            lambda x: self.model.sample_error(x, self.model(x, training=False)), self.samples
        )

    def _run(self, call: Callable, x: np.ndarray) -> np.ndarray:
        size = max(1, BATCH_NUMBERS // math.prod(self.samples.shape[1:]))
        starts = range(0, len(x), size)
        return np.concatenate([_to_numpy(call(x[start : start + size])) for start in starts])


@contextlib.contextmanager
def writing_results(directory: Path) -> Iterator[None]:
    """Turns errors of writing into a line; TensorFlow has its own ones for event files.

    Raises:
        UserError: In place of an `OSError` or an error of TensorFlow's.
    """
    try:
        with written(directory):
            yield
    except tf.errors.OpError as error:
        if "Summary" not in error.message:
            # Not about event files.
            raise
        # The reason comes after the names of operations and files.
        reason = re.split(r"[;}] ?", error.message.splitlines()[0].partition(" [Op:")[0])[-1]
        raise UserError(
            f"{directory}: cannot be written ({reason}); the same command resumes from here"
        ) from None


def sample_budget(model: MemAE, shape: tuple[int, ...]) -> int:
    """How many samples of a shape can be used for figures at little cost."""
    numbers = math.prod(shape)
    if model.memory is not None:
        queries = math.prod(model.code_shape(shape)[:-1])
        numbers = max(numbers, queries * model.memory.num_slots)
    most = MOST_CLIPS if len(shape) == 4 else NUM_SAMPLES
    return min(most, max(LEAST_SAMPLES, ALL_NUMBERS // numbers))


def _as_queries(values: np.ndarray) -> np.ndarray:
    """Values (samples, ..., k) with one query a row, (queries, k)."""
    return values.reshape(-1, values.shape[-1])


def _to_numpy(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))
