"""The life cycle of versions: found, loaded, served, drained, unloaded.

The states of a version are START, LOADING, AVAILABLE, UNLOADING, END. Only one poll at a time
changes versions; requests only lease AVAILABLE ones. A new version is loaded and warmed up before
an old one is unloaded, and the last request that uses an old one closes it.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memae_tf.serving.server.config import ModelConfig
from memae_tf.serving.server.servable import Servable
from memae_tf.serving.wire.protocol import State
from memae_tf.serving.wire.status import (
    Code,
    ServingError,
    failed_precondition,
    invalid_argument,
    load_error,
    not_found,
)

logger = logging.getLogger(__name__)

MAX_VERSION = 2**63 - 1
# The least seconds between two looks at a version that a reload waits for.
SETTLING_SECONDS = 0.05


@dataclass(frozen=True)
class ModelSpec:
    """The model, and maybe a version or label, that a request names."""

    name: str
    version: int | None = None
    label: str | None = None


class Version:
    """One version of a model."""

    def __init__(self, name: str, number: int, path: str):
        self.name = name
        self.number = number
        self.path = path
        self.state = State.START
        self.error: ServingError | None = None
        self.servable: Servable | None = None
        self.leases = 0
        self.attempts = 0
        self.retry_at = 0.0

    @property
    def failed(self) -> bool:
        """Whether it could not be loaded."""
        return self.state is State.END and self.error is not None


class Model:
    """A configured model, with all versions that were ever wanted."""

    def __init__(self, config: ModelConfig):
        self.config = config
        self.versions: dict[int, Version] = {}
        self._warned = ""

    def warn(self, message: str) -> None:
        """Logs what a poll finds wrong, unless the poll before found the same."""
        if message and message != self._warned:
            logger.warning("Model %s: %s", self.config.name, message)
        self._warned = message

    def serves(self, config: ModelConfig) -> bool:
        """Whether a version answers that was chosen as by this config."""
        return self.config.policy == config.policy and bool(self.available())

    def available(self) -> list[int]:
        """The numbers of the versions that answer, oldest first."""
        return sorted(n for n, v in self.versions.items() if v.state is State.AVAILABLE)


class Registry:
    """All models and their versions.

    Args:
        load: Loads and warms up a Servable from the directory of a version.
        max_load_retries: How often a version that fails to load is tried again.
        retry_seconds: Seconds between two attempts.
        allow_unavailable_labels: Whether a new label may name a version that is not available yet.
    """

    def __init__(
        self,
        load: Callable[[Version], Servable],
        max_load_retries: int = 5,
        retry_seconds: float = 60.0,
        allow_unavailable_labels: bool = False,
    ):
        self._load = load
        self._max_load_retries = max_load_retries
        self._retry_seconds = retry_seconds
        self._allow_unavailable_labels = allow_unavailable_labels
        self._models: dict[str, Model] = {}
        # For GetModelStatus, which includes models that are no longer configured.
        self._history: dict[str, dict[int, Version]] = {}
        # Held while versions are loaded, so requests never take it.
        self._lifecycle = threading.RLock()
        # Guards all state; held only briefly.
        self._lock = threading.RLock()
        self._closing = threading.Event()

    # Requests.

    @contextlib.contextmanager
    def lease(self, spec: ModelSpec) -> Iterator[Version]:
        """Leases the version that a spec names, which stays loaded within the context.

        Raises:
            ServingError: If there is no such version.
        """
        with self._lock:
            version = self._resolve(spec)
            version.leases += 1
        try:
            yield version
        finally:
            self._release(version)

    def _resolve(self, spec: ModelSpec) -> Version:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        number = spec.version
        if spec.label is not None:
            if model is None or spec.label not in model.config.labels:
                raise invalid_argument(f"Unrecognized servable version label: {spec.label}")
            number = model.config.labels[spec.label]
        available = model.available() if model else []
        if number is None and available:
            number = available[-1]
        if number is None:
            raise not_found(f"Servable not found for request: Latest({spec.name})")
        if number not in available:
            raise not_found(f"Servable not found for request: Specific({spec.name}, {number})")
        return model.versions[number]

    def _release(self, version: Version) -> None:
        with self._lock:
            version.leases -= 1
            if version.leases or version.state is not State.UNLOADING:
                return
        self._end(version)

    def status(self, spec: ModelSpec) -> list[Version]:
        """The versions of a model, newest first, or the named one; labels are ignored."""
        with self._lock:
            versions = self._history.get(spec.name, {})
            if not versions:
                raise not_found(f"Could not find any versions of model {spec.name}")
            if spec.version is None:
                return [versions[number] for number in sorted(versions, reverse=True)]
            if spec.version not in versions:
                raise not_found(f"Could not find version {spec.version} of model {spec.name}")
            return [versions[spec.version]]

    # Lifecycle.

    def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Sets the models to serve at the start; `poll_once` loads them."""
        with self._lifecycle, self._lock:
            self._models = {config.name: Model(config) for config in configs}

    def poll_once(self) -> None:
        """Looks once at every base path, and loads and unloads versions accordingly."""
        with self._lifecycle:
            for model in list(self._models.values()):
                if self._closing.is_set():
                    return
                wanted = self._load_wanted(model, model.config)
                if wanted is not None:
                    self._unload_unwanted(model, wanted)

    def poll_every(self, seconds: float) -> None:
        """Polls until `stop_polling`."""
        while not self._closing.wait(seconds):
            try:
                self.poll_once()
            except Exception:
                # The available versions continue to answer.
                logger.exception("A poll of the models failed")

    def reload(self, configs: Sequence[ModelConfig], timeout: float | None = None) -> None:
        """Replaces the models that are served, or changes nothing if one cannot be served.

        It returns when each model has a version that answers. Models that are no longer listed are
        unloaded after that.

        Raises:
            ServingError: If a model that is new, or wants other versions than before, has no
                version that loads, or if a label names no version.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lifecycle:
            old = self._models
            new = {config.name: self._candidate(config) for config in configs}
            wanted: dict[str, set[int] | None] = {}
            try:
                for config in configs:
                    model = new[config.name]
                    if model is old.get(config.name) and model.serves(config):
                        # As in a poll, because an unchanged model is no reason to refuse the
                        # others.
                        wanted[config.name] = self._load_wanted(model, config)
                    else:
                        wanted[config.name] = self._settle(model, config, deadline)
                self._check_labels(new, configs, old, wanted)
            except BaseException:
                for name, model in new.items():
                    if model is not old.get(name):
                        self._unload_unwanted(model, set())
                with self._lock:
                    for name, model in old.items():
                        self._history.setdefault(name, {}).update(model.versions)
                self.poll_once()
                raise
            with self._lock:
                for config in configs:
                    new[config.name].config = config
                self._models = new
            for name, model in old.items():
                if model is not new.get(name):
                    self._unload_unwanted(model, set())
            for name, model in new.items():
                if wanted[name] is not None:
                    self._unload_unwanted(model, wanted[name])

    def check_labels(self) -> None:
        """Checks that the labels of the first configuration name AVAILABLE versions."""
        self._check_labels(self._models, [m.config for m in self._models.values()], {}, {})

    def serving(self) -> dict[str, list[int]]:
        """The versions that answer, by model."""
        with self._lock:
            return {name: model.available() for name, model in self._models.items()}

    def pending(self) -> list[str]:
        """The names of the models without a version that answers."""
        with self._lock:
            return [name for name, model in self._models.items() if not model.available()]

    def failures(self) -> list[Version]:
        """Versions that could not be loaded, of models without a version that answers."""
        with self._lock:
            return [
                version
                for model in self._models.values()
                if not model.available()
                for version in model.versions.values()
                if version.failed
            ]

    def stop_polling(self) -> None:
        """Ends `poll_every` and all waiting for versions, soon."""
        self._closing.set()

    def close(self) -> None:
        """Unloads all versions; those in use after their last request."""
        self.stop_polling()
        with self._lifecycle:
            with self._lock:
                models = list(self._models.values())
                self._models = {}
            for model in models:
                self._unload_unwanted(model, set())

    def _candidate(self, config: ModelConfig) -> Model:
        model = self._models.get(config.name)
        if model is not None and model.config.base_path == config.base_path:
            return model
        return Model(config)

    def _settle(self, model: Model, config: ModelConfig, deadline: float | None) -> set[int]:
        """Loads the versions that a model's config wants, until one of them answers."""
        while True:
            wanted = self._load_wanted(model, config)
            if not wanted:
                raise failed_precondition(
                    f"No versions of servable {config.name} found under base path "
                    f"{config.base_path}"
                )
            versions = [model.versions[number] for number in wanted]
            if any(version.state is State.AVAILABLE for version in versions):
                return wanted
            if all(version.failed for version in versions):
                raise ServingError(Code.UNKNOWN, self.failure_message(versions))
            retry_at = min(v.retry_at for v in versions if not v.failed)
            pause = max(SETTLING_SECONDS, retry_at - time.monotonic())
            if deadline is not None and time.monotonic() + pause > deadline:
                raise ServingError(
                    Code.DEADLINE_EXCEEDED, f"Timed out waiting for a version of {config.name}"
                )
            if self._closing.wait(pause):
                raise ServingError(Code.UNAVAILABLE, "The server is stopping")

    @staticmethod
    def failure_message(versions: Sequence[Version]) -> str:
        """The error message for versions that did not load."""
        items = ", ".join(
            f"{{name: {version.name} version: {version.number}}} due to error: {version.error}"
            for version in versions
        )
        return f"{len(versions)} servable(s) did not become available: {{{items}}}"

    def _check_labels(
        self,
        models: dict[str, Model],
        configs: Sequence[ModelConfig],
        known: dict[str, Model],
        wanted: Mapping[str, set[int] | None],
    ) -> None:
        with self._lock:
            for config in configs:
                available = set(models[config.name].available())
                if wanted.get(config.name) is not None:
                    # The others are about to be unloaded.
                    available &= wanted[config.name]
                old = known[config.name].config.labels if config.name in known else {}
                for label, number in config.labels.items():
                    moves = old.get(label, number) != number
                    if number in available or (self._allow_unavailable_labels and not moves):
                        continue
                    raise failed_precondition(
                        f"Request to assign label to version {number} of model {config.name}, "
                        "which is not currently available for inference"
                    )

    def _load_wanted(self, model: Model, config: ModelConfig) -> set[int] | None:
        """Loads the wanted versions that are missing; `None` if the base path cannot be read."""
        try:
            found = versions_in(config.base_path)
        except OSError as error:
            model.warn(str(error))
            return None
        wanted = config.policy.choose(set(found))
        model.warn("" if wanted else f"no version to serve under {config.base_path}")
        self._forget_failures(model, wanted)
        for number in sorted(wanted, reverse=True):
            version = model.versions.get(number)
            if version is None or (version.state is State.END and not version.failed):
                version = self._start(model, Version(config.name, number, str(found[number])))
            if version.state is State.LOADING and time.monotonic() >= version.retry_at:
                self._try_to_load(version)
        return wanted

    def _forget_failures(self, model: Model, wanted: set[int]) -> None:
        # A version that failed is not tried again, unless it had disappeared in between.
        with self._lock:
            for number in [n for n, v in model.versions.items() if v.failed and n not in wanted]:
                del model.versions[number]

    def _start(self, model: Model, version: Version) -> Version:
        with self._lock:
            version.state = State.LOADING
            model.versions[version.number] = version
            self._history.setdefault(version.name, {})[version.number] = version
        return version

    def _try_to_load(self, version: Version) -> None:
        what = f"{version.name} version {version.number}"
        try:
            servable = self._load(version)
        except Exception as error:
            with self._lock:
                version.attempts += 1
                version.error = load_error(error)
                version.retry_at = time.monotonic() + self._retry_seconds
                if version.attempts > self._max_load_retries:
                    version.state = State.END
            logger.error("Loading %s failed (%d): %s", what, version.attempts, version.error)
            return
        with self._lock:
            version.servable, version.error = servable, None
            version.state = State.AVAILABLE
        logger.info("%s is available", what)

    def _unload_unwanted(self, model: Model, wanted: set[int]) -> None:
        ended = []
        with self._lock:
            # Until a wanted version answers, the old versions continue to be served.
            if wanted and not wanted & set(model.available()):
                return
            for number, version in model.versions.items():
                if number in wanted or version.state in (State.UNLOADING, State.END):
                    continue
                version.state = State.UNLOADING
                if not version.leases:
                    ended.append(version)
        for version in ended:
            self._end(version)

    def _end(self, version: Version) -> None:
        if version.servable is not None:
            version.servable.close()
        with self._lock:
            version.servable = version.error = None
            version.state = State.END
        logger.info("%s version %d is unloaded", version.name, version.number)


def versions_in(base_path: str | Path) -> dict[int, Path]:
    """The directories under a base path whose names are integers, by number.

    Raises:
        OSError: If it cannot be read.
    """
    found: dict[int, Path] = {}
    for path in sorted(Path(base_path).iterdir()):
        if not (path.name.isascii() and path.name.isdigit() and path.is_dir()):
            continue
        number = int(path.name) if len(path.name) < 30 else MAX_VERSION + 1
        if number > MAX_VERSION:
            continue
        if number in found:
            logger.warning("%s and %s are the same version", found[number], path)
        found[number] = path
    return found
