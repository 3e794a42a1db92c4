"""`python -m memae_tf.serve` as a user runs it: what it says, and how it ends."""

import signal
import socket
import subprocess
import sys

import clients
import pytest


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_requests_under_way_are_answered_before_the_end(everything, number, status):
    with clients.ServeCommand(f"small={everything.base_path}") as server:
        process = server.process
        assert "for development" in process.stderr.readline()
        assert server.lines[0] == "small: version 1"
        assert server.rest_address.startswith("http://127.0.0.1:")
        idle = clients.rest_connection(server)
        idle.request("GET", "/v1/models/small")
        idle.getresponse().read()
        body = b'{"signature_name": "slow", "inputs": [100]}'
        host, port = server.rest_address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(
                b"POST /v1/models/small:predict HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            # Now it is under way.
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
            process.send_signal(number)
            assert any("Stopping" in line for line in iter(process.stderr.readline, ""))
            connection.sendall(body[:10])
            connection.sendall(body[10:])
            answer = b"".join(iter(lambda: connection.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b'{"outputs": [100]}')
        assert process.wait(60) == status
        idle.close()
        assert "Traceback" not in process.stderr.read()
        with pytest.raises(OSError, match="refused"):
            clients.rest(server, "GET", "/v1/models/small")


def test_pretrained_detector_is_exported_served_and_cleared_away(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    request = (clients.ROOT / "serving" / "examples" / "explain.json").read_bytes()
    with clients.ServeCommand("--pretrained", "kddcup99") as server:
        assert server.lines[0] == "kddcup99: version 1"
        (folder,) = tmp_path.glob("memae_tf-*")
        assert [path.name for path in (folder / "kddcup99").iterdir()] == ["1"]
        status, answer = clients.rest(server, "POST", "/v1/models/kddcup99:predict", request)
        assert status == 200
        # The middle of a flood, its beginning, a regular connection: see docs/serving.md.
        assert [row["is_anomaly"] for row in answer["predictions"]] == [0, 1, 1]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    assert not list(tmp_path.glob("memae_tf-*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to serve"),
        (["no/such/directory"], "no/such/directory is not a directory"),
        (["mnist"], "mnist is not a directory; the pretrained detector is --pretrained mnist"),
        # No name, but a folder.
        (["no/lr=0.1/kdd"], "no/lr=0.1/kdd is not a directory"),
        (["{base}", "--port", "70000"], "--port: 70000 should be from 0 to 65535"),
        (["{base}", "--rest-port", "-1"], "--rest-port: -1 should be from 0 to 65535"),
        (["{base}", "--threads", "0"], "--threads: 0 should be 1 or more"),
        (["{base}", "--poll-seconds", "-1"], "--poll-seconds: -1 should be from 0 to 100000000"),
        (["{base}", "--poll-seconds", "nan"], "--poll-seconds: nan should be from 0 to"),
        (["{base}", "--max-request-mib", "inf"], "--max-request-mib: inf should be 0.001 or more"),
        (["{base}", "--max-request-mib", "0"], "--max-request-mib: 0 should be 0.001 or more"),
        (["{base}/1"], "is a version itself"),
        (["{above}"], "above has no versions, but models that have some; expected one, "),
        (["{run}"], "run is a run; publish it first, `python -m memae_tf.export "),
        (
            ["--pretrained", "cifar"],
            "no such pretrained detector; there are kddcup99",
        ),
        (["--pretrained", "kddcup99", "kddcup99={base}"], "two models are named"),
        (["{base}", "{base}"], "two models are named"),
        (["kdd="], "kdd=: should be NAME=BASE, with a name and a folder of versions"),
        (["/"], "/ has no name for its model; give it one, as NAME=/"),
        (["{base}", "--poll-seconds", "1e12"], "1e12 should be from 0 to 1"),
        (["--model-config-file", "nothing.config"], "is not a model config"),
        (["--model-config-file", "{bad}"], "is not a model config"),
        (["--model-config-file", "{relative}"], "absolute path"),
        (["{base}", "--port", "x"], "'x' should be a whole number"),
    ],
)
def test_mistakes_are_told_in_one_line(everything, tmp_path, arguments, message):
    files = {"base": everything.base_path, "bad": tmp_path / "bad", "relative": tmp_path / "rel"}
    for name in ("above", "run"):
        files[name] = tmp_path / name
        files[name].mkdir()
    (files["above"] / "model").symlink_to(everything.base_path)
    (files["run"] / "detector.keras").touch()
    files["bad"].write_text("model_config_list {")
    files["relative"].write_text(
        'model_config_list { config { name: "a" base_path: "b" model_platform: "tensorflow" } }'
    )
    result = subprocess.run(
        [*clients.COMMAND, *(argument.format(**files) for argument in arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=clients.ROOT,
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_missing_packages_are_named(everything):
    code = (
        "import sys; sys.modules['tensorflow_serving'] = None\n"
        "from memae_tf import console, serve\n"
        "console.run(lambda _: serve.main(sys.argv[1:]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, everything.base_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=clients.ROOT,
    )
    assert result.returncode == 2
    assert "pip install 'memae_tf[serving]'" in result.stderr
    assert result.stderr.count("\n") == 1
