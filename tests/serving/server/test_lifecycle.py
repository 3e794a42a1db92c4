"""Versions come, go and fail under requests: nothing is dropped, nothing wrong is answered."""

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import clients
import grpc
import numpy as np
import pytest
from served_models import publish, warmup_log, write_warmup
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)

from memae_tf.errors import UserError
from memae_tf.serving.server.config import ALL, ModelConfig, VersionPolicy
from memae_tf.serving.server.model_server import ModelServer, ServerOptions
from memae_tf.serving.server.registry import ModelSpec, State
from memae_tf.serving.wire.status import Code, ServingError

ADDER = ModelSpec("adder")


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "adder"
    path.mkdir()
    publish(path, 1, 10)
    return path


def config(base, *args, name="adder", **kwargs) -> ModelConfig:
    return ModelConfig(name, str(base), *args, **kwargs)


def states(server, name="adder") -> dict[int, str]:
    return {v.number: v.state.name for v in server.core.status(ModelSpec(name))}


def answer(server, spec: ModelSpec = ADDER) -> float:
    with server.core.lease(spec) as version:
        [y] = server.core.predict(version, "", {"x": np.zeros(1, np.float32)}).values()
        return float(y[0])


def test_new_versions_under_load(serve, base):
    """MEMAE_LOAD_CLIENTS ask for MEMAE_LOAD_SECONDS, through three versions at least."""
    server = serve(config(base))
    done = threading.Event()
    rounds = threading.Condition()
    counts = [0] * int(os.environ.get("MEMAE_LOAD_CLIENTS", "6"))
    end = time.monotonic() + float(os.environ.get("MEMAE_LOAD_SECONDS", "0"))
    versions = [1]

    def client(index: int) -> list[float]:
        answers = []
        with clients.GrpcClient(server) as grpc_client:
            connection = clients.rest_connection(server)
            while not done.is_set():
                if index % 2:
                    [y] = grpc_client.predict("adder", [0.5])
                else:
                    connection.request("POST", "/v1/models/adder:predict", '{"instances": [0.5]}')
                    y = float(connection.getresponse().read().split(b"[")[1].split(b"]")[0])
                answers.append(y)
                with rounds:
                    counts[index] += 1
                    rounds.notify_all()
            connection.close()
        return answers

    def everybody_answered_anew() -> bool:
        seen = list(counts)
        with rounds:
            return rounds.wait_for(
                lambda: all(now >= then + 2 for now, then in zip(counts, seen, strict=True)), 60
            )

    with ThreadPoolExecutor(len(counts)) as pool:
        futures = [pool.submit(client, index) for index in range(len(counts))]
        try:
            while len(versions) < 4 or time.monotonic() < end:
                assert everybody_answered_anew()
                versions.append(versions[-1] + 1)
                publish(base, versions[-1], 10 * versions[-1], warmup=[1.0])
                server.registry.poll_once()
            assert everybody_answered_anew()
        finally:
            done.set()
        for future in futures:
            answers = future.result(60)
            # Never back to a version that was replaced, never anything else.
            assert sorted(answers) == answers
            assert set(answers) <= {10 * version + 0.5 for version in versions}
            assert answers[-1] == 10 * versions[-1] + 0.5
    assert clients.wait_until(
        lambda: {v.state for v in server.core.status(ADDER)[1:]} == {State.END}
    )
    assert states(server)[versions[-1]] == "AVAILABLE"
    status, page = clients.rest(server, "GET", "/monitoring/prometheus/metrics")
    assert status == 200
    assert (
        f':tensorflow:serving:request_count{{model_name="adder",status="OK"}} {sum(counts)}' in page
    )


def test_version_in_use_is_unloaded_after_its_last_request(serve, base):
    server = serve(config(base))
    with server.core.lease(ADDER) as first:
        with server.core.lease(ADDER):
            publish(base, 2, 20)
            server.registry.poll_once()
            assert states(server) == {2: "AVAILABLE", 1: "UNLOADING"}
            assert answer(server) == 20
        assert states(server) == {2: "AVAILABLE", 1: "UNLOADING"}
        [y] = server.core.predict(first, "", {"x": np.zeros(1, np.float32)}).values()
        assert y[0] == 10
        with pytest.raises(ServingError, match="Specific"):
            answer(server, ModelSpec("adder", 1))
    assert states(server) == {2: "AVAILABLE", 1: "END"}


def break_graph(version):
    (version / "saved_model.pb").write_bytes((version / "saved_model.pb").read_bytes()[:100])


def break_variables(version):
    for path in (version / "variables").glob("*.data*"):
        path.write_bytes(b"")


def remove_graph(version):
    (version / "saved_model.pb").unlink()


def fail_warmup(version):
    write_warmup(version, [warmup_log("picky", [1.0]), warmup_log("picky", [-1.0])])


def garble_warmup(version):
    write_warmup(version, [b"\xff\xff\xff"])


def cut_warmup(version):
    write_warmup(version, [warmup_log("picky", [1.0])])
    [path] = (version / "assets.extra").iterdir()
    path.write_bytes(path.read_bytes()[:-3])


def too_much_warmup(version):
    write_warmup(version, [warmup_log("picky", [1.0])] * 1001)


def empty_warmup(version):
    write_warmup(version, [b""])


@pytest.mark.parametrize(
    "damage",
    [
        break_graph,
        break_variables,
        remove_graph,
        fail_warmup,
        garble_warmup,
        cut_warmup,
        too_much_warmup,
        empty_warmup,
    ],
)
def test_broken_version_never_replaces_a_good_one(serve, base, tmp_path, damage):
    server = serve(config(base), max_load_retries=1)
    version = publish(tmp_path, 2, 20)
    damage(version)
    version.rename(base / "2")
    server.registry.poll_once()
    assert states(server) == {2: "LOADING", 1: "AVAILABLE"}
    server.registry.poll_once()
    assert states(server) == {2: "END", 1: "AVAILABLE"}
    assert answer(server) == 10
    _, status = clients.rest(server, "GET", "/v1/models/adder")
    assert status["model_version_status"][0]["status"]["error_code"] != "OK"
    assert status["model_version_status"][0]["status"]["error_message"]
    # A number that failed stays so, repaired or not; a higher one is served.
    shutil.rmtree(base / "2")
    publish(base, 2, 20)
    server.registry.poll_once()
    assert states(server) == {2: "END", 1: "AVAILABLE"}
    publish(base, 3, 30)
    server.registry.poll_once()
    assert answer(server) == 30


def test_broken_version_takes_the_place_of_the_oldest_of_several(serve, base):
    """While another one that is wanted answers, as in TensorFlow Serving."""
    publish(base, 2, 20)
    server = serve(config(base, VersionPolicy(latest=2)), max_load_retries=0)
    for number in (3, 4):
        break_graph(publish(base, number, 10 * number))
        server.registry.poll_once()
        # Of two that are broken neither replaces the last one that works.
        assert server.registry.serving() == {"adder": [2]}
        assert answer(server) == 20


def test_version_that_loads_at_a_later_attempt(serve, base):
    server = serve(config(base), max_load_retries=3)
    publish(base, 2, 20)
    graph = base / "2" / "saved_model.pb"
    graph.rename(base / "aside")
    server.registry.poll_once()
    assert states(server)[2] == "LOADING"
    (base / "aside").rename(graph)
    server.registry.poll_once()
    assert states(server) == {2: "AVAILABLE", 1: "END"}


def test_warmup_can_be_left_out(serve, base):
    server = serve(config(base), warmup=False)
    publish(base, 2, 20, warmup=[-1.0])
    server.registry.poll_once()
    assert answer(server) == 20


def test_removed_version_is_replaced_by_the_one_before(serve, base):
    publish(base, 2, 20)
    server = serve(config(base))
    assert states(server) == {2: "AVAILABLE"}
    shutil.rmtree(base / "2")
    server.registry.poll_once()
    assert (states(server), answer(server)) == ({2: "END", 1: "AVAILABLE"}, 10)
    publish(base, 2, 25)
    server.registry.poll_once()
    assert answer(server) == 25


def test_base_path_that_cannot_be_read_changes_nothing(serve, base):
    server = serve(config(base))
    base.rename(base.with_name("elsewhere"))
    server.registry.poll_once()
    assert answer(server) == 10


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (VersionPolicy(), [3]),
        (VersionPolicy(latest=2), [2, 3]),
        (ALL, [1, 2, 3]),
        (VersionPolicy(None, frozenset({1, 3, 9})), [1, 3]),
    ],
)
def test_policies(serve, base, policy, served):
    publish(base, 2, 20)
    publish(base, 3, 30)
    (base / "0000003").symlink_to(base / "3")
    (base / "4.tmp").mkdir()
    (base / "5").write_text("a file")
    (base / "99999999999999999999").mkdir()
    server = serve(config(base, policy))
    assert server.registry.serving() == {"adder": served}
    assert answer(server) == 30


def test_labels(serve, base):
    publish(base, 2, 20)
    server = serve(config(base, ALL, {"stable": 1, "canary": 2}))
    assert answer(server, ModelSpec("adder", label="stable")) == 10
    assert answer(server, ModelSpec("adder", label="canary")) == 20
    server.core.reload([config(base, ALL, {"stable": 2})])
    assert answer(server, ModelSpec("adder", label="stable")) == 20
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
        answer(server, ModelSpec("adder", label="canary"))
    with pytest.raises(ServingError, match="not currently available for inference") as error:
        server.core.reload([config(base, ALL, {"stable": 3})])
    assert error.value.code is Code.FAILED_PRECONDITION
    assert answer(server, ModelSpec("adder", label="stable")) == 20


def test_label_of_a_version_that_the_same_reload_takes_out(serve, base):
    publish(base, 2, 20)
    server = serve(config(base, ALL, {"stable": 1}))
    with pytest.raises(ServingError, match="assign label to version 1 of model adder"):
        server.core.reload([config(base, labels={"stable": 1})])
    assert server.registry.serving() == {"adder": [1, 2]}
    assert answer(server, ModelSpec("adder", label="stable")) == 10


def test_labels_of_versions_to_come(serve, base):
    labels = {"next": 2}
    with pytest.raises(UserError, match="which is not currently available"):
        serve(config(base, ALL, labels))
    server = serve(config(base, ALL, labels), allow_unavailable_labels=True)
    with pytest.raises(ServingError, match=r"Specific\(adder, 2\)"):
        answer(server, ModelSpec("adder", label="next"))
    publish(base, 2, 20)
    server.registry.poll_once()
    assert answer(server, ModelSpec("adder", label="next")) == 20


def test_reload_replaces_the_models(serve, base, tmp_path):
    server = serve(config(base))
    other = tmp_path / "other"
    other.mkdir()
    publish(other, 7, 70)
    publish(base, 2, 20)
    with clients.GrpcClient(server) as client:
        service = model_service_pb2_grpc.ModelServiceStub(client.channel)
        request = model_management_pb2.ReloadConfigRequest()
        models = request.config.model_config_list.config
        models.add(name="other", base_path=str(other), model_platform="tensorflow")
        response = service.HandleReloadConfigRequest(request, timeout=60)
        assert response.status.error_code == 0
        assert client.predict("other", [0]) == [70]
        with pytest.raises(grpc.RpcError, match="Servable not found"):
            client.predict("adder", [0])
        # What is no longer served is still known.
        status = service.GetModelStatus(
            get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "adder"}), timeout=60
        )
        assert [s.state for s in status.model_version_status] == [State.END]
        # The same directory under another name, policy and label.
        entry = models.add(name="adder2", base_path=str(base), model_platform="tensorflow")
        entry.model_version_policy.specific.versions.extend([1, 2])
        entry.version_labels["old"] = 1
        service.HandleReloadConfigRequest(request, timeout=60)
        assert client.predict("adder2", [0], label="old") == [10]
    assert server.registry.serving() == {"other": [7], "adder2": [1, 2]}


@pytest.mark.parametrize("what", ["missing", "empty", "broken"])
def test_reload_that_cannot_be_served_changes_nothing(serve, base, tmp_path, what):
    server = serve(config(base), max_load_retries=1)
    publish(base, 2, 20)
    bad = tmp_path / "bad"
    if what != "missing":
        bad.mkdir()
    if what == "broken":
        break_graph(publish(bad, 1, 1))
    good = tmp_path / "good"
    good.mkdir()
    publish(good, 1, 5)
    with pytest.raises(ServingError, match="bad"):
        server.core.reload([config(good, name="good"), config(bad, name="bad")], 60)
    assert server.registry.serving() == {"adder": [2]}
    assert states(server, "good") == {1: "END"}
    with pytest.raises(ServingError, match="Latest"):
        answer(server, ModelSpec("good"))


def test_reload_of_another_directory_under_the_same_name(serve, base, tmp_path):
    server = serve(config(base))
    other = tmp_path / "other"
    other.mkdir()
    publish(other, 1, 99)
    with server.core.lease(ADDER):
        server.core.reload([config(other)])
        assert answer(server) == 99
    assert states(server) == {1: "AVAILABLE"}


def test_refused_reload_of_another_directory_leaves_the_status(serve, base, tmp_path):
    server = serve(config(base), max_load_retries=0)
    bad = tmp_path / "bad"
    bad.mkdir()
    break_graph(publish(bad, 1, 1))
    with pytest.raises(ServingError, match="bad"):
        server.core.reload([config(bad)], 60)
    assert states(server) == {1: "AVAILABLE"}
    assert answer(server) == 10


def test_reload_is_not_refused_for_a_model_that_stays(serve, base, tmp_path):
    """Neither for a new version of it that fails nor for a directory that is not there now."""
    server = serve(config(base), max_load_retries=0)
    break_graph(publish(base, 2, 20))
    server.registry.poll_once()
    other = tmp_path / "other"
    other.mkdir()
    publish(other, 1, 5)
    server.core.reload([config(base), config(other, name="other")], 60)
    assert server.registry.serving() == {"adder": [1], "other": [1]}
    away = other.rename(tmp_path / "away")
    server.core.reload([config(base), config(other, name="other"), config(away, name="third")], 60)
    assert server.registry.serving() == {"adder": [1], "other": [1], "third": [1]}
    # But versions that are asked for now should be there.
    specific = VersionPolicy(specific=frozenset({2}))
    with pytest.raises(ServingError, match="did not become available"):
        server.core.reload([replace(config(base), policy=specific)], 60)
    assert server.registry.serving() == {"adder": [1], "other": [1], "third": [1]}


def test_label_of_a_version_to_come_may_be_repeated(serve, base):
    labelled = replace(config(base), labels={"next": 2})
    server = serve(labelled, allow_unavailable_labels=True)
    server.core.reload([labelled], 60)
    with pytest.raises(ServingError, match="assign label to version 3"):
        server.core.reload([replace(labelled, labels={"next": 3})], 60)


def test_server_waits_for_the_first_version(serve, tmp_path):
    waiting = []

    def publish_and_note(names):
        waiting.append(names)
        publish(tmp_path, 1, 10)

    options = ServerOptions(grpc_port=0, rest_port=0, poll_seconds=0.01)
    with_none = ModelServer([config(tmp_path)], options)
    try:
        with_none.start(publish_and_note)
        assert waiting == [["adder"]]
        assert answer(with_none) == 10
    finally:
        with_none.stop()


def test_server_does_not_start_with_a_broken_model(serve, base):
    break_graph(base / "1")
    with pytest.raises(UserError, match="did not become available"):
        serve(config(base), max_load_retries=0)


def test_polling_thread_finds_new_versions(serve, base):
    server = serve(config(base), poll_seconds=0.01)
    publish(base, 2, 20)
    assert clients.wait_until(lambda: server.registry.serving() == {"adder": [2]})
    assert answer(server) == 20
