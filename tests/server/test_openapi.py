"""`docs/openapi.yaml` matches the code's names and limits, and the server's real responses."""

from __future__ import annotations

import ast
import base64
import copy
import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import hypothesis
import jsonschema_rs
import numpy as np
import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)

from gradcam import errors, options
from gradcam.errors import InvalidOption
from gradcam.explain import cam, overlay
from gradcam.options import Options
from gradcam.protocols import kserve_inputs, kserve_v1, kserve_v2
from gradcam.protocols.kserve_tensors import OUTPUTS
from gradcam.protocols.single_image import IMAGE_FIELDS
from gradcam.results import DEFAULT_TOPK
from gradcam.settings import Settings
from tests.support.encoding import encoded
from tests.support.http_client import get
from tests.support.served import Call, Model, sample
from tools.paths import ROOT
from tools.sessions import loopback_session

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text(encoding="utf-8"))
SCHEMAS = DOCUMENT["components"]["schemas"]
DEFAULTS: dict[str, Any] = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for field in dataclasses.fields(Settings)
}

IMAGE = encoded(sample(61, 40, 30))
BASE64 = base64.b64encode(IMAGE).decode()
BAD = base64.b64encode(b"not an image").decode()


def resolved(node: Any) -> Any:
    """Resolve a reference; the keys beside it override those of its target."""
    while "$ref" in node:
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        target = functools.reduce(lambda holder, name: holder[name], node["$ref"].split("/")[1:], DOCUMENT)
        node = {**target, **siblings}
    return node


@functools.cache
def validator(content: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**yaml.safe_load(content), "components": DOCUMENT["components"]})


def conforms(path: str, response: requests.Response, method: str = "post") -> str:
    """Check a response against the document; return its content type."""
    described = resolved(DOCUMENT["paths"][path][method]["responses"][str(response.status_code)])
    content_type = response.headers["content-type"]
    schema = described["content"][content_type]["schema"]
    if content_type == "application/json":
        validator(yaml.safe_dump(schema)).validate(response.json())
    return content_type


# ----------------------------------------------------------------------------- the document and the code


def test_document_is_valid_openapi() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    broken = copy.deepcopy(DOCUMENT)
    del broken["paths"]["/ping"]["get"]["responses"]["200"]["description"]
    with pytest.raises(Exception, match="description"):
        schemathesis.openapi.from_dict(broken).validate()


@pytest.mark.parametrize("holder", ["Request", "Form", "Parameters", "Instance"])
def test_schemas_have_every_option(holder: str) -> None:
    documented = SCHEMAS[holder]
    assert [name for name in documented["properties"] if name not in IMAGE_FIELDS] == list(options.PARSERS)
    assert documented["additionalProperties"] is False
    assert not documented.keys() & {"anyOf", "not"}  # generators of clients do not understand them
    assert all(f"`{name}`" in documented["description"] for name in options.MUTUALLY_EXCLUSIVE)


def test_methods_have_distinct_names_for_generated_clients() -> None:
    names = SCHEMAS["MethodName"]["x-enum-varnames"]
    assert len(set(names)) == len(names) == len(SCHEMAS["MethodName"]["enum"])
    assert all(name.isidentifier() for name in names)


def arrays(node: Any) -> list[Mapping[str, Any]]:
    """Return all schemas of arrays in a part of the document."""
    if isinstance(node, list):
        return [schema for entry in node for schema in arrays(entry)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("type") == "array" else []
    return own + [schema for entry in node.values() for schema in arrays(entry)]


def test_arrays_have_items_for_generated_clients() -> None:
    assert all("items" in schema for schema in arrays(DOCUMENT["paths"]) + arrays(SCHEMAS))


@pytest.mark.parametrize("path", ["/predictions/{model}", "/explanations/{model}"])
def test_every_option_is_a_header(path: str) -> None:
    headers = [resolved(parameter) for parameter in DOCUMENT["paths"][path]["post"]["parameters"]]
    assert [header["in"] for header in headers] == ["header"] * len(options.PARSERS)
    assert [header["name"].lower() for header in headers] == [f"gradcam-{name}" for name in options.PARSERS]


def option(name: str) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = resolved(SCHEMAS["Parameters"]["properties"][name])
    return schema


def test_defaults_of_options_match_the_code() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(Options)} | {
        "topk": DEFAULT_TOPK,
        "explain": DEFAULTS["explain"],
    }
    documented = {name: option(name).get("default") for name in options.PARSERS}
    assert documented == defaults


def test_choices_of_options_match_the_code() -> None:
    assert option("method")["enum"] == list(cam.METHODS)
    assert option("colormap")["enum"] == list(overlay.COLORMAPS)
    for name in ("heatmap", "overlay", "style"):
        with pytest.raises(InvalidOption) as failure:
            options.read({name: "other"})
        assert f"must be one of {', '.join(option(name)['enum'])}; got" in str(failure.value)


@pytest.mark.parametrize(
    ("name", "bound", "offset"),
    [("topk", "minimum", -1), ("explain", "minimum", -1), ("alpha", "minimum", -0.01), ("threshold", "minimum", -0.01)],
)
def test_lower_bounds_of_options_match_the_code(name: str, bound: str, offset: float) -> None:
    least = option(name)[bound]
    assert getattr(options.read({name: least}), name) == least
    with pytest.raises(InvalidOption):
        options.read({name: least + offset})


def test_limits_match_the_default_settings() -> None:
    assert option("explain")["maximum"] == DEFAULTS["max_targets"]
    assert option("targets")["anyOf"][1]["maxItems"] == DEFAULTS["max_targets"]
    assert option("layer")["anyOf"][1]["maxItems"] == DEFAULTS["max_passes"]
    assert SCHEMAS["Answer"]["properties"]["explanations"]["maxItems"] == DEFAULTS["max_targets"]
    assert SCHEMAS["Instances"]["properties"]["instances"]["maxItems"] == DEFAULTS["max_instances"]
    assert SCHEMAS["ImageTensor"]["properties"]["data"]["maxItems"] == DEFAULTS["max_instances"]
    assert SCHEMAS["ImageTensor"]["properties"]["shape"]["maxItems"] == kserve_inputs.MAX_DIMENSIONS
    description = DOCUMENT["components"]["requestBodies"]["Image"]["description"]
    assert f"{DEFAULTS['max_image_bytes'] // 2**20} MiB" in description
    assert f"{DEFAULTS['max_image_pixels'] // 10**6} million" in description


def test_tensors_match_the_code() -> None:
    assert SCHEMAS["OutputTensor"]["properties"]["name"]["enum"] == list(OUTPUTS)
    assert list(SCHEMAS["InferRequest"]["properties"]) == [
        "id",
        "parameters",
        "inputs",
        "outputs",
        "model_name",
        "model_version",
    ]
    assert set(SCHEMAS["InferRequest"]["properties"]) == set(kserve_v2.MEMBERS)
    assert set(SCHEMAS["Instances"]["properties"]) == set(kserve_v1.MEMBERS)


def raised_errors() -> set[tuple[int, str]]:
    """Return the status and code of every error that the handler raises."""
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    raised = set()
    for path in (ROOT / "handler").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            kind = kinds.get(node.func.id)
            if kind is None or not issubclass(kind, errors.RequestError):
                continue
            codes = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
            raised.add((kind.status, ast.literal_eval(codes[0]) if codes else kind.code))
    return raised


def test_errors_match_the_code() -> None:
    names = {400: "BadRequest", 413: "TooLarge", 415: "UnsupportedImage", 422: "Unprocessable"}
    documented = [
        (status, code)
        for status, name in names.items()
        for code in SCHEMAS[name]["properties"]["error"]["properties"]["code"]["enum"]
    ]
    assert set(documented) == raised_errors()
    all_codes = SCHEMAS["ErrorV1"]["properties"]["error"]["properties"]["code"]["enum"]
    assert all_codes == SCHEMAS["ErrorV2"]["properties"]["code"]["enum"] == [code for _, code in documented]


def test_metadata_match_the_settings() -> None:
    documented = SCHEMAS["Metadata"]
    assert list(documented["properties"])[: len(DEFAULTS)] == list(DEFAULTS)
    assert documented["required"] == list(documented["properties"])
    defaults = {name: value for name, value in DEFAULTS.items() if value is not dataclasses.MISSING}
    assert {
        name: schema["default"] for name, schema in documented["properties"].items() if "default" in schema
    } == defaults


# ----------------------------------------------------------------------------- real responses


def infer(*images: str, **members: Any) -> dict[str, Any]:
    tensor = {"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": list(images)}
    return {"inputs": [tensor], **members}


BIG = encoded(np.zeros((3000, 4000), np.uint8))
SINGLE = {
    "raw": (Call(IMAGE), 200),
    "raw, many options": (Call(IMAGE, {"Gradcam-Explain": "3", "Gradcam-Layer": "layer3,layer4"}), 200),
    "nothing explained": (Call(IMAGE, {"Gradcam-Explain": "0"}), 200),
    "threshold": (Call(IMAGE, {"Gradcam-Threshold": "0.02"}), 200),
    "png": (Call(IMAGE, {"Accept": "image/png"}), 200),
    "jpeg": (Call(IMAGE, {"Accept": "image/jpeg"}), 200),
    "form": (Call(IMAGE, form={"overlay": "png", "heatmap": "none"}), 200),
    "json": (Call(json={"image": BASE64, "overlay": "jpeg", "targets": [1, "tabby"]}), 200),
    "not an image": (Call(b"hello"), 400),
    "no image": (Call(form={"topk": "1"}), 400),
    "unknown option": (Call(IMAGE, {"Gradcam-Tagets": "1"}), 400),
    "overlays too large": (Call(BIG, form={"explain": "9", "overlay": "png"}), 413),
    "pdf": (Call(b"%PDF-1.7"), 415),
    "unknown class": (Call(IMAGE, {"Gradcam-Targets": "tabbi"}), 422),
    "too many passes": (Call(IMAGE, form={"layer": "layer1,layer2,layer3,layer4,conv1,bn1", "smooth": "1"}), 422),
}
V1 = {
    "good": ({"instances": [BASE64, {"image": BASE64, "explain": 0}], "parameters": {"topk": 2}}, 200),
    "one bad": ({"instances": [BASE64, BAD, {"image": BASE64, "method": "cam"}, {}]}, 200),
    "all bad": ({"instances": [BAD, {"image": BASE64, "topk": 0}]}, 400),
    "none": ({"instances": []}, 400),
    "too large": ({"instances": [base64.b64encode(encoded(np.zeros((8001, 8000), np.uint8))).decode()]}, 413),
    "pdf": ({"instances": [base64.b64encode(b"%PDF-1.7").decode()]}, 415),
    "too many": ({"instances": [BASE64] * 33}, 422),
}
V2 = {
    "good": (infer(BASE64, BASE64, id="7", parameters={"explain": 2, "overlay": "jpeg"}), 200),
    "one bad": (infer(BASE64, BAD), 200),
    "nothing explained": (infer(BASE64, parameters={"explain": 0}), 200),
    "requested outputs": (infer(BASE64, outputs=[{"name": "label"}]), 200),
    "all bad": (infer(BAD, BAD), 400),
    "shape": ({"inputs": [{**infer(BASE64)["inputs"][0], "shape": [2]}]}, 400),
    "overlays too large": (infer(base64.b64encode(BIG).decode(), parameters={"explain": 9, "overlay": "png"}), 413),
    "pdf": (infer(base64.b64encode(b"%PDF-1.7").decode()), 415),
    "too many": (infer(*[BASE64] * 33), 422),
}


@pytest.mark.parametrize("endpoint", ["predictions", "explanations"])
@pytest.mark.parametrize("kind", SINGLE)
def test_single_image_responses_conform(kind: str, endpoint: str, squash: Model) -> None:
    call, status = SINGLE[kind]
    response = squash.post(dataclasses.replace(call, endpoint=endpoint))

    assert response.status_code == status, response.text
    content_type = conforms(f"/{endpoint}/{{model}}", response)

    assert content_type == (call.headers.get("Accept", "application/json") if status == 200 else "application/json")


@pytest.mark.parametrize("verb", ["predict", "explain"])
@pytest.mark.parametrize("kind", V1)
def test_v1_responses_conform(kind: str, verb: str, squash: Model) -> None:
    body, status = V1[kind]
    response = squash.post_json(f"/v1/models/squash:{verb}", body)

    assert response.status_code == status, response.text
    conforms(f"/v1/models/{{model}}:{verb}", response)


@pytest.mark.parametrize("kind", V2)
def test_v2_responses_conform(kind: str, squash: Model) -> None:
    body, status = V2[kind]
    response = squash.post_json("/v2/models/squash/infer", body)

    assert response.status_code == status, response.text
    conforms("/v2/models/{model}/infer", response)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/predictions/nothing", "/predictions/{model}"),
        ("/explanations/nothing", "/explanations/{model}"),
        ("/v1/models/nothing:predict", "/v1/models/{model}:predict"),
        ("/v1/models/nothing:explain", "/v1/models/{model}:explain"),
        ("/v2/models/nothing/infer", "/v2/models/{model}/infer"),
    ],
)
def test_responses_for_unknown_models_conform(url: str, path: str, squash: Model) -> None:
    response = squash.post_json(url, {})

    assert response.status_code == 404
    conforms(path, response)
    assert response.json() == {
        "code": 404,
        "type": "ModelNotFoundException",
        "message": "Model not found: nothing",
    }


def test_response_to_an_invalid_form_conforms(squash: Model) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name=""\r\n\r\n0\r\n--x--\r\n'
    response = squash.post(Call(body, {"Content-Type": "multipart/form-data; boundary=x"}))

    conforms("/predictions/{model}", response)
    assert (response.status_code, response.json()) == (
        500,
        DOCUMENT["components"]["responses"]["BrokenForm"]["content"]["application/json"]["example"],
    )


def test_response_to_a_body_above_torchserves_limit_is_empty(squash: Model) -> None:
    response = squash.post(Call(bytes(64 * 2**20 + 1), {"Content-Type": "image/png"}))

    assert (response.status_code, response.content) == (413, b"")


def test_model_state_conforms(squash: Model, crop: Model) -> None:
    for model in (squash, crop):
        url = f"{model.server.management_url}/models/{model.name}"
        without, customized = (get(f"{url}{query}") for query in ("", "?customized=true"))
        conforms("/models/{model}", without, "get")
        conforms("/models/{model}", customized, "get")
        assert "customizedMetadata" not in without.json()[0]
        assert customized.json()[0]["customizedMetadata"]["labels"] == list(model.labels)
    assert get(f"{squash.server.management_url}/models/nothing").status_code == 404
    conforms("/models/{model}", get(f"{squash.server.management_url}/models/nothing"), "get")
    conforms("/ping", get(f"{squash.server.inference_url}/ping"), "get")


# ----------------------------------------------------------------------------- examples


def close(actual: Any, expected: Any) -> bool:
    """Compare two JSON values, numbers within a tolerance for other processors."""
    if isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(close(actual[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(close, actual, expected))
    return bool(actual == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected))


def example(holder: Any) -> Any:
    (entry,) = resolved(holder)["content"]["application/json"]["examples"].values()
    return entry["value"]


@pytest.mark.parametrize("path", ["/predictions/{model}", "/v1/models/{model}:predict", "/v2/models/{model}/infer"])
def test_examples_equal_the_servers_responses(path: str, efficientnet: Model) -> None:
    operation = DOCUMENT["paths"][path]["post"]
    response = efficientnet.post_json(path.format(model=efficientnet.name), example(operation["requestBody"]))

    assert close(response.json(), example(operation["responses"]["200"])), response.text
    assert conforms(path, response) == "application/json"
    body = resolved(operation["requestBody"])["content"]["application/json"]["schema"]
    validator(yaml.safe_dump(body)).validate(example(operation["requestBody"]))


def test_examples_of_errors_equal_the_servers_responses(efficientnet: Model) -> None:
    responses = DOCUMENT["components"]["responses"]
    image = example(DOCUMENT["components"]["requestBodies"]["Image"])
    for name, url, body in (
        ("BadRequest", "/predictions/efficientnet_lite0", {"image": base64.b64encode(b"hello").decode()}),
        ("NotFound", "/predictions/resnet", {}),
        ("Unprocessable", "/predictions/efficientnet_lite0", {**image, "targets": "tabbi"}),
    ):
        assert efficientnet.post_json(url, body).json() == responses[name]["content"]["application/json"]["example"]


# ----------------------------------------------------------------------------- generated requests

IMAGES = [
    encoded(sample(seed, 30, 20).repeat(2, axis=0), kind)
    for seed, kind in ((71, "PNG"), (72, "JPEG"), (73, "WEBP"), (74, "GIF"))
]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [
    ("/predictions/{model}", "post"),
    ("/explanations/{model}", "post"),
    ("/v1/models/{model}:predict", "post"),
    ("/v1/models/{model}:explain", "post"),
    ("/v2/models/{model}/infer", "post"),
    ("/ping", "get"),
    ("/models/{model}", "get"),
]


@pytest.fixture(scope="module", autouse=True)
def formats() -> None:
    """Generate images where the document says bytes; the server answers random bytes only with 400."""
    schemathesis.openapi.format("binary", st.sampled_from(IMAGES).map(schemathesis.transport.serialization.Binary))
    schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(data).decode() for data in IMAGES]))


def for_model(name: str) -> dict[str, Any]:
    """Return the document for one model, with its names and without slow requests."""
    document = copy.deepcopy(DOCUMENT)
    components = document["components"]
    components["parameters"]["model"] |= {"schema": {"enum": [name]}, "example": name}
    # The headers Explain, Targets and Threshold exclude each other, which OpenAPI cannot express.
    for path in ("/predictions/{model}", "/explanations/{model}"):
        operation = document["paths"][path]["post"]
        operation["parameters"] = [
            entry for entry in operation["parameters"] if not entry["$ref"].endswith(("/Explain", "/Threshold"))
        ]
    schemas = components["schemas"]
    for holder in ("Request", "Form", "Parameters", "Instance"):
        pairs = itertools.combinations(options.MUTUALLY_EXCLUSIVE, 2)
        schemas[holder]["not"] = {"anyOf": [{"required": list(pair)} for pair in pairs]}
    for holder in ("Request", "Form"):
        schemas[holder]["anyOf"] = [{"required": [name]} for name in IMAGE_FIELDS]
    # Data that match a shape cannot be expressed.
    schemas["InferRequest"]["properties"]["inputs"]["items"] = {"$ref": "#/components/schemas/ImageTensor"}
    schemas["Topk"]["maximum"] = 1000
    schemas["Explain"]["maximum"] = 3
    schemas["Threshold"]["minimum"] = 0.02  # at most 50 classes
    schemas["Class"] = {"enum": [0, 999, "281", "tabby"]}
    schemas["Versus"] = {"enum": [7, "lynx"]}  # none of the classes above
    schemas["Targets"]["anyOf"][1]["maxItems"] = 3
    schemas["TargetsText"] = {"enum": ["0", "tabby,  999", '"tabby"']}
    schemas["LayerName"] = {"enum": ["layer4", "layer3.1.conv2", "relu"]}
    schemas["LayerText"] = {"enum": ["layer4", "layer4,layer3.1.conv2"]}
    schemas["Layer"]["anyOf"][1]["maxItems"] = 2
    # Requests only: responses may name every method. All of these accept `versus`.
    schemas["Method"] = {"enum": list(cam.CONTRASTING_METHODS)}
    schemas["Instances"]["properties"]["instances"]["maxItems"] = 2
    schemas["ImageTensor"]["properties"]["shape"] = {"const": [1]}
    schemas["ImageTensor"]["properties"]["data"]["maxItems"] = 1
    return document


@st.composite
def cases(draw: st.DrawFn, operation: Any, mode: str) -> schemathesis.Case[Any]:
    """Generate requests; skip those for which Schemathesis fails to validate its own wrapper of binary data."""
    try:
        return draw(operation.as_strategy(generation_mode=mode))
    except ValueError as error:
        if "'Binary'" not in str(error):
            raise
        hypothesis.reject()


def run(
    model: Model, path: str, method: str, mode: str, examples: int, *checks: Any
) -> Counter[tuple[str | None, int]]:
    """Send generated requests; count the responses by the request's content type and the status."""
    operation = schemathesis.openapi.from_dict(for_model(model.name))[path][method]
    base_url = model.server.management_url if path == "/models/{model}" else model.server.inference_url
    seen: Counter[tuple[str | None, int]] = Counter()

    # A fixed seed: `derandomize` would generate other requests after every edit of this function.
    @hypothesis.seed(0)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=cases(operation, mode))
    def send(case: schemathesis.Case[Any]) -> None:
        with loopback_session() as session:
            response = case.call(base_url=base_url, session=session, timeout=60)
        applied = [*CHECKS, *checks]
        if response.status_code == 500 and response.json()["type"] == "ErrorDataDecoderException":
            applied.remove(not_a_server_error)  # TorchServe rejects the form before the model sees it
        case.validate_response(response, checks=applied)
        seen[case.media_type, response.status_code] += 1

    send()
    return seen


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_generated_valid_requests_are_answered_as_documented(path: str, method: str, squash: Model) -> None:
    seen = run(squash, path, method, GenerationMode.POSITIVE, 20 if method == "post" else 3, positive_data_acceptance)

    assert {status for _, status in seen} == {200}
    if method == "post":
        content_types = resolved(DOCUMENT["paths"][path][method]["requestBody"])["content"].keys()
        assert content_types & {"application/json", "multipart/form-data"} <= {content_type for content_type, _ in seen}


@pytest.mark.parametrize(("path", "method"), OPERATIONS[:5])
def test_generated_invalid_requests_are_rejected_as_documented(path: str, method: str, squash: Model) -> None:
    seen = run(squash, path, method, GenerationMode.NEGATIVE, 20)

    assert sum(count for (_, status), count in seen.items() if status == 400) > 0
