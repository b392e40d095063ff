"""The manifests as kubectl renders them: valid, secure, and consistent with the image and its metrics."""

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

INFERENCE_SERVICE = Path(__file__).with_name("kserve_inference_service.yaml")
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
    """An overlay with a Deployment and all components."""
    return rendered[request.param]


def environment(container: Document) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env", [])}


def dockerfile_env(name: str) -> str:
    match = re.search(rf"\b{name}=(\S+)", DOCKERFILE)
    assert match is not None
    return match[1]


# ----------------------------------------------------------------------------- validity


def validate(document: Document) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_object_is_valid(documents: list[Document]) -> None:
    standard = [document for document in documents if document["kind"] not in CUSTOM]
    for document in standard:
        validate(document)
    assert standard or {document["kind"] for document in documents} == {"InferenceService", "ServingRuntime"}


def test_validation_rejects_unknown_fields(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    broken = copy.deepcopy(only(rendered["cpu", False], "Deployment"))
    broken["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        validate(broken)


def test_serving_runtime_is_a_valid_pod(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    spec = pod_of(rendered["kserve", False])
    pod = {"containers": copy.deepcopy(spec["containers"]), "volumes": spec["volumes"]}
    for probe in ("readinessProbe", "livenessProbe"):
        # Knative fills in its only port.
        pod["containers"][0][probe]["httpGet"].setdefault("port", 8080)
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod})


def closed(schema: Any) -> Any:
    """Return an OpenAPI schema that rejects fields it does not name."""
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


def test_inference_service_is_valid(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    version = yaml.safe_load(INFERENCE_SERVICE.read_text())
    schema = version["schema"]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    validator = Draft202012Validator(closed(schema))
    service = only(rendered["kserve", False], "InferenceService")
    assert service["apiVersion"] == f"serving.kserve.io/{version['name']}"
    assert [error.message for error in validator.iter_errors(service)] == []
    wrong = copy.deepcopy(service)
    wrong["spec"]["predictor"]["scaleTarge"] = 1
    assert any("scaleTarge" in error.message for error in validator.iter_errors(wrong))


# ----------------------------------------------------------------------------- policies


def test_containers_have_minimal_privileges(documents: list[Document]) -> None:
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


def test_pods_have_no_cluster_credentials(documents: list[Document]) -> None:
    specs = [document["spec"] for document in documents if document["kind"] == "InferenceService"]
    pod = specs[0]["predictor"] if specs else pod_of(documents)
    assert pod["automountServiceAccountToken"] is False


def test_containers_have_resource_requests_and_limits(documents: list[Document]) -> None:
    pod = pod_of(documents)
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
    assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)


def test_image_decides_workers_and_threads(documents: list[Document]) -> None:
    container = server_of(documents)
    assert not {"OMP_NUM_THREADS", "TS_DEFAULT_WORKERS_PER_MODEL"} & environment(container).keys()
    limits = container["resources"]["limits"]
    assert limits["memory"].endswith("Gi")
    plan = WorkerPlan.of(int(limits["cpu"]), int(limits["memory"][:-2]) * 2**30, int(limits.get("nvidia.com/gpu", 0)))
    assert plan == (WorkerPlan(1, 4) if "nvidia.com/gpu" in limits else WorkerPlan(2, 1))


def test_images_are_targets_of_the_dockerfile(documents: list[Document]) -> None:
    targets = set(re.findall(r"^FROM runtime AS (\w+)$", DOCKERFILE, re.MULTILINE))
    pod = pod_of(documents)
    images = {container["image"] for container in [*pod["containers"], *pod.get("initContainers", [])]}
    assert len(images) == 1
    assert images < {f"gradcam-serving:{target}" for target in targets}


def test_probes_distinguish_loading_from_dead(deployed: list[Document]) -> None:
    container = server_of(deployed)
    startup, readiness, liveness = (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    # An answer shows that loading is complete; loading may take TorchServe's startupTimeout.
    assert startup["exec"]["command"][:2] == ["python", "/app/healthcheck.py"]
    assert "healthcheck.py" in DOCKERFILE
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
    assert startup["timeoutSeconds"] > int(startup["exec"]["command"][3])
    # Later probes bypass the queue. A pod is taken out of service long before it is restarted.
    assert readiness["httpGet"] == liveness["httpGet"] == {"path": "/health", "port": "http"}
    assert "acl health path /health" in HAPROXY
    seconds = [probe["periodSeconds"] * probe["failureThreshold"] for probe in (readiness, liveness)]
    assert seconds == [10, 180]


def test_ports_match_the_image(documents: list[Document]) -> None:
    config = (ROOT / "config.properties").read_text() + (ROOT / "docker" / "torchserve.properties").read_text()
    settings = dict(line.split("=", 1) for line in config.splitlines() if "=" in line and not line.startswith("#"))
    outside = {int(port) for port in re.findall(r"bind :(\d+)", HAPROXY)}
    outside.add(int(settings["metrics_address"].removeprefix("http://0.0.0.0:")))
    ports = {port["containerPort"] for port in server_of(documents)["ports"]}
    assert ports == (outside if len(ports) > 1 else {8080})
    exposed = re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    assert exposed is not None
    assert set(map(int, exposed[1].split())) == outside
    # The management API is reachable only inside the pod.
    assert settings["management_address"] == "http://127.0.0.1:8081"
    assert settings["grpc_management_address"] == settings["grpc_inference_address"] == "127.0.0.1"
    assert settings["inference_address"].startswith("http://127.0.0.1:")


def test_selectors_match_the_pods(deployed: list[Document]) -> None:
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


def test_network_policy_admits_only_requests_and_metrics(
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


def test_page_has_its_own_service_and_reaches_torchserve(deployed: list[Document]) -> None:
    (page,) = (container for container in pod_of(deployed)["containers"] if container["name"] == "lens")
    (port,) = page["ports"]
    settings = LensSettings.from_environment({"LENS_HOST": dockerfile_env("LENS_HOST")})
    assert (settings.host, settings.port) == ("0.0.0.0", port["containerPort"])
    # TorchServe listens in the same pod.
    assert settings.inference == "http://127.0.0.1:8080"
    assert settings.management == "http://127.0.0.1:8081"
    service = only(deployed, "Service", "gradcam-serving-lens")["spec"]
    assert service["selector"] == LABELS
    assert [entry["targetPort"] for entry in service["ports"]] == [port["name"]]
    opened = only(deployed, "NetworkPolicy")["spec"]["ingress"]
    assert {"from": [{"namespaceSelector": {}}], "ports": [{"port": port["name"]}]} in opened
    assert page["command"] == ["tini", "--", "python", "-m", "lens"]
    assert page["livenessProbe"]["httpGet"] == {"path": "/health", "port": port["name"]}
    # A pod whose page is down still classifies.
    assert "readinessProbe" not in page


def test_pods_have_time_to_drain(deployed: list[Document]) -> None:
    pause = int(server_of(deployed)["lifecycle"]["preStop"]["exec"]["command"][1])
    stop = 5  # TorchServe stops within 2.5 s
    assert pod_of(deployed)["terminationGracePeriodSeconds"] >= pause + int(dockerfile_env("DRAIN_SECONDS")) + stop


def test_gpu_overlay_requests_one_gpu(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    for variant, gpus in {"cpu": None, "gpu": "1"}.items():
        assert server_of(rendered[variant, False])["resources"]["limits"].get("nvidia.com/gpu") == gpus
    pod = pod_of(rendered["gpu", False])
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_downloaded_model_is_the_served_model(deployed: list[Document]) -> None:
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


def test_default_model_is_the_one_in_the_image(rendered: dict[tuple[str, bool], list[Document]]) -> None:
    for variant in ("cpu", "gpu", "kserve"):
        assert environment(server_of(rendered[variant, False]))["MODEL"] == dockerfile_env("MODEL")


# ----------------------------------------------------------------------------- metrics


def declared() -> set[str]:
    """Return the names of the metrics in metrics.yaml as Prometheus sees them."""
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
    """Return the metrics in a PromQL expression: names before `{`, or before `, label)` in a query."""
    return set(re.findall(r"([A-Za-z_]\w*)(?=\{|, \w+\)$)", expression))


def test_dashboard_reads_declared_metrics() -> None:
    dashboard = json.loads((KUBERNETES / "components" / "monitoring" / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [entry["definition"] for entry in dashboard["templating"]["list"] if "definition" in entry]
    read = set().union(*map(used, expressions))
    assert all(map(used, expressions))
    assert read <= declared()
    # The dashboard shows every metric of the handler.
    own = {family(name) for name in declared() if name.startswith("gradcam_")}
    assert own == {family(name) for name in read if name.startswith("gradcam_")}
    assert "gradcam_batch_size" in own


def test_autoscaler_metric_is_provided_by_the_adapter(deployed: list[Document]) -> None:
    values = yaml.safe_load((KUBERNETES / "components" / "scale-on-queue" / "adapter-values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    cpu, queue = only(deployed, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert queue["pods"]["metric"]["name"] == rule["name"]["as"]
    assert cpu["resource"]["name"] == "cpu"
    assert used(rule["seriesQuery"]) | used(rule["metricsQuery"]) <= declared()
    assert used(rule["metricsQuery"]) == {"ts_queue_latency_microseconds", "ts_inference_requests_total"}


def test_every_overlay_lists_every_component() -> None:
    for overlay in ("cpu", "gpu"):
        text = Path(KUBERNETES / "overlays" / overlay / "kustomization.yaml").read_text()
        assert sorted(re.findall(r"components/([\w-]+)", text)) == COMPONENTS
