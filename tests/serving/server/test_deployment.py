"""The files in serving/: whether they are what their readers take, agree with each other, and work
with the embedded server."""

import re
import subprocess
import sys
from pathlib import Path

import clients
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from memae_tf.serving.server import metrics
from memae_tf.serving.server.batching_parameters import BatchingParameters
from memae_tf.serving.server.config import read_model_config_file

SERVING = Path(__file__).parents[3] / "serving"
KUBERNETES = sorted((SERVING / "kubernetes").glob("*.yaml"))
# The releases of Kubernetes that the manifests are for: what they use is in all of them.
KUBERNETES_RELEASE = "1.33"


def read_yaml(name: str):
    return yaml.safe_load((SERVING / name).read_text())


def manifests() -> list[dict]:
    return [d for path in KUBERNETES for d in yaml.safe_load_all(path.read_text())]


def manifest(kind: str) -> dict:
    return next(document for document in manifests() if document["kind"] == kind)


def container() -> dict:
    (found,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture(scope="module")
def models():
    return read_model_config_file(SERVING / "models.config")


def test_labels_name_versions_that_are_served(models):
    (model,) = models
    assert set(model.labels) == {"stable", "canary"}
    assert set(model.labels.values()) <= model.policy.specific


def test_batching_parameters():
    parameters = BatchingParameters.read(SERVING / "batching.config")
    assert parameters.max_batch_size == 1024
    # A request that comes alone waits no longer than it computes.
    assert 0 < parameters.batch_timeout_micros <= 5000


def test_monitoring_config_and_those_who_scrape_agree_on_the_path():
    config = monitoring_config()
    text_format.Parse((SERVING / "monitoring.config").read_text(), config)
    assert config.prometheus_config.enable
    (scrape,) = read_yaml("prometheus/prometheus.yml")["scrape_configs"]
    annotations = manifest("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert (
        config.prometheus_config.path
        == scrape["metrics_path"]
        == annotations["prometheus.io/path"]
        == metrics.PATH
    )


def monitoring_config():
    """A MonitoringConfig of monitoring_config.proto, which tensorflow-serving-api leaves out."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="monitoring.proto", syntax="proto3")
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=field.TYPE_BOOL, label=1)
    prometheus.field.add(name="path", number=2, type=field.TYPE_STRING, label=1)
    file.message_type.add(name="MonitoringConfig").field.add(
        name="prometheus_config",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name="PrometheusConfig",
        label=1,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("MonitoringConfig"))()


def test_compose_file_fits_the_specification():
    pytest.importorskip("check_jsonschema")
    command = "-m check_jsonschema --builtin-schema vendor.compose-spec"
    result = subprocess.run(
        [sys.executable, *command.split(), SERVING / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout


def test_compose_mounts_and_scrapes_what_is_there():
    services = read_yaml("compose.yaml")["services"]
    serving, prometheus = services["serving"], services["prometheus"]
    assert ".:/config:ro" in serving["volumes"]
    for path in config_files(serving["command"]):
        assert (SERVING / path).is_file()
    assert "./prometheus:/etc/prometheus:ro" in prometheus["volumes"]
    scrape = read_yaml("prometheus/prometheus.yml")
    for path in scrape["rule_files"]:
        assert (SERVING / "prometheus" / path).is_file()
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"] == ["serving:8501"]
    # On loopback: the server asks nobody who he is.
    ports = [port for service in services.values() for port in service["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def config_files(arguments: list[str]) -> set[str]:
    return set(re.findall(r"--\w+_file=/config/(\S+)", " ".join(arguments)))


def test_rules_are_of_metrics_that_there_are():
    parser = pytest.importorskip("promql_parser")
    (group,) = read_yaml("prometheus/rules.yml")["groups"]
    recorded = {rule["record"] for rule in group["rules"] if "record" in rule}
    served = {metric.name for metric in vars(metrics.Metrics()).values()}
    served |= {f"{name}_bucket" for name in served}
    for rule in group["rules"]:
        parser.parse(rule["expr"])
        names = set(re.findall(r":tensorflow:[\w:]+|memae:[\w:]+", rule["expr"]))
        assert names <= served | recorded
        assert names or rule["expr"].startswith("up{")
    (scrape,) = read_yaml("prometheus/prometheus.yml")["scrape_configs"]
    (down,) = (rule["expr"] for rule in group["rules"] if rule["expr"].startswith("up{"))
    assert f'job="{scrape["job_name"]}"' in down


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)
def test_manifests_fit_their_schemas(path):
    validator = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all(path.read_text()):
        validator.validate(document, KUBERNETES_RELEASE, strict=True)


def test_kustomization_has_every_manifest_and_every_file_that_the_server_reads():
    kustomization = read_yaml("kustomization.yaml")
    assert sorted(SERVING / path for path in kustomization["resources"]) == KUBERNETES
    (generated,) = kustomization["configMapGenerator"]
    assert config_files(container()["args"]) == set(generated["files"])
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    config_maps = [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
    assert config_maps == [generated["name"]]
    assert generated["name"] == manifest("Deployment")["metadata"]["name"]
    assert manifest("Namespace")["metadata"]["name"] == kustomization["namespace"]


def test_pods_are_found_scaled_and_drained():
    deployment = manifest("Deployment")
    name, pod = deployment["metadata"]["name"], deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    for service in (d for d in manifests() if d["kind"] == "Service"):
        assert service["spec"]["selector"] == labels
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert manifest(kind)["spec"]["selector"]["matchLabels"] == labels
    scaler = manifest("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == name
    # A share of the cores that are requested: without them there is none.
    assert container()["resources"]["requests"]["cpu"]
    claims = [v["persistentVolumeClaim"] for v in pod["spec"]["volumes"] if v["name"] == "models"]
    assert claims[0]["claimName"] == manifest("PersistentVolumeClaim")["metadata"]["name"]
    waits = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert waits < pod["spec"]["terminationGracePeriodSeconds"]


def test_probes_leave_time_to_load_and_do_not_restart_for_a_model():
    probes = {name: container()[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    ports = {port["name"] for port in container()["ports"]}
    for probe in probes.values():
        action = probe.get("httpGet") or probe["tcpSocket"]
        assert action["port"] in ports
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] >= 120
    assert "tcpSocket" in probes["liveness"]


def test_embedded_server_takes_the_files(everything, serve, tmp_path, models):
    config = (SERVING / "models.config").read_text()
    assert config.count('"/models/kddcup"') == 1
    file = tmp_path / "models.config"
    file.write_text(config.replace("/models/kddcup", everything.base_path))
    server = serve(
        *read_model_config_file(file),
        batching=BatchingParameters.read(SERVING / "batching.config"),
        allow_unavailable_labels=True,
    )
    name = models[0].name
    body = b'{"inputs": [[1, 2, 3, 4]]}'
    for label in models[0].labels:
        answer = clients.rest(server, "POST", f"/v1/models/{name}/labels/{label}:predict", body)
        assert answer[0] == 200
    path = container()["readinessProbe"]["httpGet"]["path"]
    assert clients.rest(server, "GET", path)[0] == 200
    assert clients.rest(server, "GET", path.replace("stable", "other"))[0] != 200
    status, page = clients.rest(server, "GET", metrics.PATH)
    assert status == 200
    assert ":tensorflow:serving:batching_session:queuing_latency_count{} 2\n" in page
