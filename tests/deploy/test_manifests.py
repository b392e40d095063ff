"""The manifests, as a real kubectl renders them: valid, and what they promise."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from lens.settings import Settings as LensSettings
from tests.support.manifests import COMPONENTS, KUBERNETES, Document, only, pod_of, render, server_of
from tools.paths import ROOT
from tools.server.capacity import WorkerPlan

CRD = ROOT.parent / "shared" / "data" / "kserve-inferenceservice-crd.yaml"
CUSTOM = {"InferenceService", "ServingRuntime", "ServiceMonitor"}
LABELS = {"app.kubernetes.io/name": "gradcam-serving"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HAPROXY = (ROOT / "docker" / "haproxy.cfg").read_text()
VARIANTS = [("cpu", False), ("gpu", False), ("kserve", False), ("cpu", True), ("gpu", True)]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], list[Document]]:
    return {variant: render(variant[0], tmp_path_factory.mktemp("k"), variant[1]) for variant in VARIANTS}


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant[0] + " with components" * variant[1])
def documents(request: pytest.FixtureRequest, rendered: dict[tuple[str, bool], list[Document]]) -> list[Document]:
    return rendered[request.param]


@pytest.fixture(params=[("cpu", True), ("gpu", True)], ids=["cpu", "gpu"])
def deployed(request: pytest.FixtureRequest, rendered: dict[tuple[str, bool], list[Document]]) -> list[Document]:
    """An overlay with a Deployment, and all components."""
    return rendered[request.param]


def environment(container: Document) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}


def dockerfile_env(name: str) -> str:
    match = re.search(rf"\b{name}=(\S+)", DOCKERFILE)
    assert match is not None
    return match[1]


# ----------------------------------------------------------------------------- valid


def validate(document: Document) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_takes_every_object(documents: list[Document]) -> None:
    known = [document for document in documents if document["kind"] not in CUSTOM]
    for document in known:
        validate(document)
    assert known or {document["kind"] for document in documents} == {"InferenceService", "ServingRuntime"}


def test_the_validation_refuses_what_it_does_not_know(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    broken = copy.deepcopy(only(rendered["cpu", False], "Deployment"))
    broken["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        validate(broken)


def test_the_runtime_of_kserve_is_a_pod(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    spec = pod_of(rendered["kserve", False])
    pod = {"containers": copy.deepcopy(spec["containers"]), "volumes": spec["volumes"]}
    for probe in ("readinessProbe", "livenessProbe"):
        # Knative has one port, and fills it in.
        pod["containers"][0][probe]["httpGet"].setdefault("port", 8080)
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod})


def closed(schema: Any) -> Any:
    """Returns an OpenAPI schema that takes no field it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
        result.pop("anyOf", None)
    return result


def test_kserve_takes_the_inference_service(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    if not CRD.is_file():
        pytest.skip(f"{CRD.name}, KServe's definition of an InferenceService, is not there")
    (version,) = yaml.load(CRD.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    validator = Draft202012Validator(closed(schema))
    service = only(rendered["kserve", False], "InferenceService")
    assert service["apiVersion"] == f"serving.kserve.io/{version['name']}"
    assert [error.message for error in validator.iter_errors(service)] == []
    wrong = copy.deepcopy(service)
    wrong["spec"]["predictor"]["scaleTarge"] = 1
    assert any("scaleTarge" in error.message for error in validator.iter_errors(wrong))


# ----------------------------------------------------------------------------- policies


def test_no_container_may_do_more_than_it_needs(documents: list[Document]) -> None:
    pod = pod_of(documents)
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = pod.get("securityContext", {}) | container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is context["privileged"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in DOCKERFILE
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_no_pod_has_the_clusters_credentials(documents: list[Document]) -> None:
    specs = [document["spec"] for document in documents if document["kind"] == "InferenceService"]
    pod = specs[0]["predictor"] if specs else pod_of(documents)
    assert pod["automountServiceAccountToken"] is False


def test_every_container_has_its_share_and_no_more(documents: list[Document]) -> None:
    pod = pod_of(documents)
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)


def test_workers_and_threads_are_left_to_the_image(documents: list[Document]) -> None:
    container = server_of(documents)
    assert not {"OMP_NUM_THREADS", "TS_DEFAULT_WORKERS_PER_MODEL"} & environment(container).keys()
    limits = container["resources"]["limits"]
    assert limits["memory"].endswith("Gi")
    plan = WorkerPlan.of(int(limits["cpu"]), int(limits["memory"][:-2]) * 2**30, int(limits.get("nvidia.com/gpu", 0)))
    assert capacity == (WorkerPlan(1, 4) if "nvidia.com/gpu" in limits else WorkerPlan(2, 1))


def test_the_images_are_targets_of_the_dockerfile(documents: list[Document]) -> None:
    targets = set(re.findall(r"^FROM runtime AS (\w+)$", DOCKERFILE, re.MULTILINE))
    pod = pod_of(documents)
    images = {container["image"] for container in [*pod["containers"], *pod.get("initContainers", [])]}
    assert len(images) == 1
    assert images < {f"gradcam-serving:{target}" for target in targets}


def test_probes_tell_loading_from_dead(deployed: list[Document]) -> None:
    container = server_of(deployed)
    startup, readiness, liveness = (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    # Loading is proved over by an answer, and may take as long as TorchServe's startupTimeout.
    assert startup["exec"]["command"][:2] == ["python", "/app/healthcheck.py"]
    assert "healthcheck.py" in DOCKERFILE
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
    assert startup["timeoutSeconds"] > int(startup["exec"]["command"][3])
    # After that nothing waits in the queue, and to be started anew takes longer than to be taken out of service.
    assert readiness["httpGet"] == liveness["httpGet"] == {"path": "/health", "port": "http"}
    assert "acl health path /health" in HAPROXY
    patience = [probe["periodSeconds"] * probe["failureThreshold"] for probe in (readiness, liveness)]
    assert patience == [10, 180]


def test_the_ports_are_those_of_the_image(documents: list[Document]) -> None:
    config = (ROOT / "config.properties").read_text() + (ROOT / "docker" / "torchserve.properties").read_text()
    settings = dict(line.split("=", 1) for line in config.splitlines() if "=" in line and not line.startswith("#"))
    outside = {int(port) for port in re.findall(r"bind :(\d+)", HAPROXY)}
    outside.add(int(settings["metrics_address"].removeprefix("http://0.0.0.0:")))
    ports = {port["containerPort"] for port in server_of(documents)["ports"]}
    assert ports == (outside if len(ports) > 1 else {8080})
    exposed = re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    assert exposed is not None
    assert set(map(int, exposed[1].split())) == outside
    # Nobody outside reaches the management API.
    assert settings["management_address"] == "http://127.0.0.1:8081"
    assert settings["grpc_management_address"] == settings["grpc_inference_address"] == "127.0.0.1"
    assert settings["inference_address"].startswith("http://127.0.0.1:")


def test_everything_finds_the_pods(deployed: list[Document]) -> None:
    deployment = only(deployed, "Deployment")
    ports = {port["name"] for port in server_of(deployed)["ports"]}
    assert deployment["spec"]["template"]["metadata"]["labels"] == LABELS
    assert deployment["spec"]["selector"]["matchLabels"] == LABELS
    service = only(deployed, "Service")
    assert service["spec"]["selector"] == LABELS
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert only(deployed, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == LABELS
    for constraint in pod_of(deployed)["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == LABELS
    target = only(deployed, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]
    monitor = only(deployed, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} < {port["name"] for port in service["spec"]["ports"]}


def test_only_pictures_and_metrics_come_in_and_nothing_goes_out(
    rendered: dict[tuple[str, bool], list[Document]],
) -> None:
    policy = only(rendered["cpu", False], "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == LABELS
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    opened = [([port["port"] for port in rule["ports"]], rule["from"]) for rule in policy["ingress"]]
    assert opened == [
        (["http", "grpc"], [{"namespaceSelector": {}}]),
        (["metrics"], [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]),
    ]
    assert policy["egress"] == []


def test_the_page_is_reached_by_a_service_of_its_own_and_reaches_what_it_asks(deployed: list[Document]) -> None:
    (page,) = (container for container in pod_of(deployed)["containers"] if container["name"] == "lens")
    (port,) = page["ports"]
    settings = LensSettings.from_environment({"LENS_HOST": dockerfile_env("LENS_HOST")})
    assert (settings.host, settings.port) == ("0.0.0.0", port["containerPort"])
    # What it asks listens in the same pod.
    assert settings.inference == "http://127.0.0.1:8080"
    assert settings.management == "http://127.0.0.1:8081"
    service = only(deployed, "Service", "gradcam-serving-lens")["spec"]
    assert service["selector"] == LABELS
    assert [entry["targetPort"] for entry in service["ports"]] == [port["name"]]
    opened = only(deployed, "NetworkPolicy")["spec"]["ingress"]
    assert {"from": [{"namespaceSelector": {}}], "ports": [{"port": port["name"]}]} in opened
    assert page["command"] == ["tini", "--", "python", "-m", "lens"]
    assert page["livenessProbe"]["httpGet"] == {"path": "/health", "port": port["name"]}
    # A pod without its page still classifies.
    assert "readinessProbe" not in page


def test_a_pod_has_time_to_drain(deployed: list[Document]) -> None:
    pause = int(server_of(deployed)["lifecycle"]["preStop"]["exec"]["command"][1])
    stop = 5  # TorchServe's own end, which takes 2.5 s
    assert pod_of(deployed)["terminationGracePeriodSeconds"] >= pause + int(dockerfile_env("DRAIN_SECONDS")) + stop


def test_the_gpu_overlay_takes_one_gpu(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    for variant, gpus in {"cpu": None, "gpu": "1"}.items():
        assert server_of(rendered[variant, False])["resources"]["limits"].get("nvidia.com/gpu") == gpus
    pod = pod_of(rendered["gpu", False])
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_a_fetched_model_is_the_one_that_is_asked_for(deployed: list[Document]) -> None:
    server, (fetch,) = server_of(deployed), pod_of(deployed)["initContainers"]
    source = fetch["envFrom"][0]["configMapRef"]["name"]
    assert environment(server)["MODEL"] == {"configMapKeyRef": {"name": source, "key": "MODEL"}}
    configs = {document["metadata"]["name"]: document["data"] for document in deployed if "data" in document}
    assert configs[source].keys() == {"MODEL", "MODEL_URL", "MODEL_SHA256"}
    script = next(volume for volume in pod_of(deployed)["volumes"] if volume["name"] == "fetch")["configMap"]["name"]
    assert configs[script].keys() == {"fetch.py"}
    folder = fetch["command"][-1]
    assert {mount["name"]: mount["mountPath"] for mount in server["volumeMounts"]}["models"] == folder
    assert folder == dockerfile_env("MODEL_STORE")


def test_without_a_change_the_model_in_the_image_is_served(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    for variant in ("cpu", "gpu", "kserve"):
        assert environment(server_of(rendered[variant, False]))["MODEL"] == dockerfile_env("MODEL")


# ----------------------------------------------------------------------------- metrics


def declared() -> set[str]:
    """Returns the metrics of metrics.yaml as Prometheus reads them."""
    document = yaml.safe_load((ROOT / "metrics.yaml").read_text())
    names = set()
    for group in ("ts_metrics", "model_metrics"):
        for kind, metrics in document[group].items():
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            names |= {metric["name"] + suffix for metric in metrics for suffix in suffixes}
    return names


def family(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


def used(expression: str) -> set[str]:
    """Returns the metrics that a PromQL expression reads: the names in front of `{`, or of `, label)` in a query."""
    return set(re.findall(r"([A-Za-z_]\w*)(?=\{|, \w+\)$)", expression))


def test_the_dashboard_reads_metrics_that_exist() -> None:
    dashboard = json.loads((KUBERNETES / "components" / "monitoring" / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [entry["definition"] for entry in dashboard["templating"]["list"] if "definition" in entry]
    read = set().union(*map(used, expressions))
    assert all(map(used, expressions))
    assert read <= declared()
    # Each of the handler's own is to be seen.
    own = {family(name) for name in declared() if name.startswith("gradcam_")}
    assert own == {family(name) for name in read if name.startswith("gradcam_")}
    assert "gradcam_batch_size" in own


def test_the_autoscaler_asks_for_what_the_adapter_gives(deployed: list[Document]) -> None:
    values = yaml.safe_load((KUBERNETES / "components" / "scale-on-queue" / "adapter-values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    cpu, queue = only(deployed, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert queue["pods"]["metric"]["name"] == rule["name"]["as"]
    assert cpu["resource"]["name"] == "cpu"
    assert used(rule["seriesQuery"]) | used(rule["metricsQuery"]) <= declared()
    assert used(rule["metricsQuery"]) == {"ts_queue_latency_microseconds", "ts_inference_requests_total"}


def test_every_component_is_offered_by_every_deployment() -> None:
    for overlay in ("cpu", "gpu"):
        text = Path(KUBERNETES / "overlays" / overlay / "kustomization.yaml").read_text()
        assert sorted(re.findall(r"components/([\w-]+)", text)) == COMPONENTS
