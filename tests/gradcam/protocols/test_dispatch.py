"""Every door a request comes through, every option, and the exact reply."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from gradcam.errors import InvalidOption, InvalidRequest, RequestError, TooLarge, UndecodableImage, UnknownName
from gradcam.images.geometry import Region
from gradcam.message import Explanation, Prediction, Reply, Request, Result
from gradcam.options import Encoding, Options
from gradcam.protocols import dispatch as wire
from gradcam.protocols import single_image as plain
from gradcam.protocols.kserve import Model

PICTURE = b"\x89PNG\r\n\x1a\n\xff\xfe"
BASE64 = base64.b64encode(PICTURE).decode()


def parse(row: dict[str, Any], headers: dict[str, Any]) -> Request:
    """Reads a message of one picture."""
    (only,) = wire.parse(row, headers, 32, Model("resnet18", "1.0")).requests
    if isinstance(only, RequestError):
        raise only
    return only


def render(result: Result | RequestError) -> Reply:
    return plain.reply([result])


def parse_json(**members: Any) -> Request:
    return parse({"body": {"image": BASE64, **members}}, {"Content-Type": "application/json"})


def options(**members: Any) -> Options:
    return parse_json(**members).options


def refused(row: dict[str, Any], headers: dict[str, Any] | None = None) -> RequestError:
    with pytest.raises(RequestError) as raised:
        parse(row, headers or {})
    return raised.value


def refused_option(**members: Any) -> str:
    error = refused({"body": {"image": BASE64, **members}})
    assert (type(error), error.code, error.status) == (InvalidOption, "invalid_option", 400)
    return str(error)


# ----------------------------------------------------------------------------- doors


@pytest.mark.parametrize(
    "row",
    [
        {"body": PICTURE},
        {"body": bytearray(PICTURE)},
        {"data": PICTURE},
        {"image": PICTURE},
        {"data": bytearray(PICTURE)},
        {"body": {"image": BASE64}},
        {"body": {"data": BASE64}},
        {"body": {"body": BASE64}},
        {"body": {"image": {"b64": BASE64}}},
        {"body": {"image": f"data:image/png;base64,{BASE64}"}},
        {"body": {"image": f"  {BASE64[:4]}\r\n{BASE64[4:]}\n"}},
        {"body": {"image": f"\n data:image/png;base64, {BASE64[:4]}\n{BASE64[4:]}"}},
        {"body": BASE64},
        {"data": BASE64},
    ],
    ids=[
        "raw",
        "raw bytearray",
        "form data",
        "form image",
        "form bytearray",
        "json image",
        "json data",
        "json body",
        "b64",
        "data url",
        "blanks in base64",
        "blanks around a data url",
        "json text",
        "form text",
    ],
)
def test_the_picture_arrives_through_every_door(row: dict[str, Any]) -> None:
    assert parse(row, {}) == Request(PICTURE, Options(), None)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "there is no picture in the request"),
        ({"topk": b"3"}, "form field 'data'"),
        ({"body": {}}, '{"image": "<base64>"}'),
        ({"body": [BASE64]}, "must be an object"),
        ({"body": None}, "not None"),
        ({"body": 5}, "not 5"),
        ({"body": True}, "not True"),
        ({"body": {"image": None}}, "not None"),
        ({"body": {"image": 1.5}}, "not 1.5"),
        ({"body": {"image": [1, 2]}}, "not [1, 2]"),
        ({"body": {"image": {}}}, "not {}"),
        ({"body": {"image": {"b64": 7}}}, "not {'b64': 7}"),
        ({"body": {"image": "AAA"}}, "not valid base64"),
        ({"body": {"image": "AAA-"}}, "not valid base64"),
        ({"body": {"image": "é" * 4}}, "not valid base64"),
        ({"body": {"image": "\ud800"}}, "not valid base64"),
        ({"body": {"image": "http://example.org/cat.png"}}, "not valid base64"),
        ({"body": {"image": {"b64": "%"}}}, "not valid base64"),
    ],
    ids=str,
)
def test_without_a_picture_the_request_is_invalid(row: dict[str, Any], said: str) -> None:
    error = refused(row)
    assert (type(error), error.code, error.status) == (InvalidRequest, "invalid_request", 400)
    assert said in str(error)


def test_a_body_that_should_be_json_but_is_not() -> None:
    # TorchServe leaves the bytes as they are where it cannot parse them.
    error = refused({"body": b'{"image": '}, {"Content-Type": "application/json"})
    assert type(error) is InvalidRequest
    assert str(error) == "the body is not valid JSON, which its content type says it is"


def test_a_long_wrong_value_is_quoted_in_part() -> None:
    assert len(str(refused({"body": {"image": list(range(10_000))}}))) < 200
    assert len(refused_option(topk="9" * 100_000)) < 200


@pytest.mark.parametrize("spelling", ["Gradcam-Topk", "gradcam-topk", "GRADCAM-TOPK"])
def test_headers_are_options_in_any_case(spelling: str) -> None:
    assert parse({"body": PICTURE}, {spelling: "3"}).options == Options(topk=3)


def test_all_options_as_headers() -> None:
    headers = {
        "Host": "localhost",
        "X-Gradcam-Topk": "9",
        "Gradcam-Topk": "3",
        "Gradcam-Targets": "281,285",
        "Gradcam-Method": "gradcam",
        "Gradcam-Layer": "layer3.1.conv2",
        "Gradcam-Smooth": "true",
        "Gradcam-Heatmap": "none",
        "Gradcam-Overlay": "jpeg",
        "Gradcam-Colormap": "viridis",
        "Gradcam-Alpha": "0.5",
    }
    expected = Options(3, (281, 285), 1, "gradcam", ("layer3.1.conv2",), True, "none", "jpeg", "viridis", 0.5)
    assert parse({"body": PICTURE}, headers).options == expected


def test_all_options_as_form_fields() -> None:
    row = {
        "data": PICTURE,
        "topk": b"3",
        "explain": b"0",
        "method": b" gradcam ",
        "layer": "layer3",
        "heatmap": b"grid",
        "overlay": bytearray(b"png"),
        "colormap": b"hot",
        "alpha": b"1",
    }
    expected = Options(3, None, 0, "gradcam", ("layer3",), False, "grid", "png", "hot", 1.0)
    assert parse(row, {}) == Request(PICTURE, expected, None)


def test_a_field_goes_before_a_header() -> None:
    assert parse({"data": PICTURE, "topk": b"7"}, {"Gradcam-Topk": "3"}).options.topk == 7


# ----------------------------------------------------------------------------- options


@pytest.mark.parametrize("value", [3, 3.0, "3", b"3", " 3 ", "003", bytearray(b"3")], ids=repr)
def test_counts(value: Any) -> None:
    assert options(topk=value).topk == 3
    assert options(explain=value).explain == 3


def test_explain_may_be_zero() -> None:
    assert options(explain=0).explain == 0
    assert options(explain="0").explain == 0


def test_a_huge_count_is_left_to_the_model_to_refuse() -> None:
    assert options(topk=10**30).topk == 10**30


@pytest.mark.parametrize(
    "value",
    [0, -1, "0", "-1", 2.5, "2.0", "", " ", "x", None, True, False, [1], {}, math.nan, math.inf, "٣", b"1e3"],
    ids=repr,
)
def test_what_topk_cannot_be(value: Any) -> None:
    shown = value.decode() if isinstance(value, bytes) else value
    assert refused_option(topk=value) == f"topk must be a whole number from 1 on, not {shown!r}"


@pytest.mark.parametrize("value", [-1, "-1", 0.5, True, None, "none", "9" * 10], ids=repr)
def test_what_explain_cannot_be(value: Any) -> None:
    assert refused_option(explain=value) == f"explain must be a whole number from 0 on, not {value!r}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (281, (281,)),
        ([281.0], (281,)),
        ("281", (281,)),
        (b"281,285", (281, 285)),
        ([281, "285", "tabby"], (281, 285, "tabby")),
        ("tabby", ("tabby",)),
        (" tabby , Egyptian cat,7 ", ("tabby", "Egyptian cat", 7)),
        ('"crane, bird", 5', ("crane, bird", 5)),
        ('281, "crane, bird" , 7', (281, "crane, bird", 7)),
        ('281,"crane, bird"', (281, "crane, bird")),
        ('"a ""quoted"" one"', ('a "quoted" one',)),
        (["crane, bird"], ("crane, bird",)),
        ("müsli", ("müsli",)),
        ("müsli".encode(), ("müsli",)),
        ([281, 281], (281, 281)),
        (-1, (-1,)),
        ("9" * 12, ("9" * 12,)),
        (10**30, (10**30,)),
        ("one\nline", ("one\nline",)),
    ],
    ids=repr,
)
def test_targets(value: Any, expected: tuple[int | str, ...]) -> None:
    assert options(targets=value).targets == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1,,2", "''"),
        ("1,", "''"),
        ([""], "''"),
        (["  "], "'  '"),
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        ([[1]], "[1]"),
        ({"a": 1}, "{'a': 1}"),
        (math.nan, "nan"),
        ([1, None], "None"),
        ([False], "False"),
    ],
    ids=repr,
)
def test_what_targets_cannot_be(value: Any, shown: str) -> None:
    expected = f"targets must be indices or labels, such as 281 or 'tabby', not {shown}"
    assert refused_option(targets=value) == expected


@pytest.mark.parametrize("value", ["", []], ids=repr)
def test_targets_without_a_class(value: Any) -> None:
    assert "targets must name at least one class" in refused_option(targets=value)


def targets_or_refused(text: str) -> tuple[int | str, ...] | RequestError:
    try:
        return options(targets=text).targets or ()
    except RequestError as error:
        return error


@pytest.mark.parametrize(
    "label",
    ["x" * 200_000, "one\rline", "a\0b", '"' * 1001, '"never closed'],
    ids=["long", "cr", "nul", "quotes", "open"],
)
def test_no_text_of_targets_is_more_than_a_request_error(label: str) -> None:
    outcome = targets_or_refused(label)
    assert "targets" in str(outcome) if isinstance(outcome, RequestError) else len(outcome) == 1
    assert len(str(outcome)) < 250_000


def test_targets_and_explain_exclude_each_other() -> None:
    assert "'targets' and 'explain' exclude each other" in refused_option(targets=[1], explain=2)
    headers = {"Gradcam-Targets": "1", "Gradcam-Explain": "2"}
    assert "'targets' and 'explain'" in str(refused({"body": PICTURE}, headers))


def test_a_field_goes_before_the_header_that_it_excludes() -> None:
    asked = parse({"data": PICTURE, "targets": b"1"}, {"Gradcam-Explain": "2"}).options
    assert (asked.targets, asked.explain) == ((1,), 1)


@pytest.mark.parametrize("name", ["method", "colormap"])
def test_names(name: str) -> None:
    assert getattr(options(**{name: " x.1 "}), name) == "x.1"
    for value in ("", "  ", 5, None, ["x"], {"x": 1}, True):
        assert refused_option(**{name: value}) == f"{name} must be a name, not {value!r}"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("heatmap", ("grid", "none"), ("png", "Grid", "", 1, None, ["grid"])),
        ("overlay", ("png", "jpeg", "none"), ("jpg", "webp", "", True, {})),
    ],
)
def test_choices(name: str, good: tuple[str, ...], bad: tuple[Any, ...]) -> None:
    for value in good:
        assert getattr(options(**{name: value}), name) == value
        assert getattr(options(**{name: value.encode()}), name) == value
    for value in bad:
        assert refused_option(**{name: value}) == f"{name} must be one of {', '.join(good)}, not {value!r}"


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0.0), (1, 1.0), (0.25, 0.25), ("0.25", 0.25), (b".5", 0.5), ("1e-1", 0.1), (" 1 ", 1.0)]
)
def test_alpha(value: Any, expected: float) -> None:
    assert options(alpha=value).alpha == expected


@pytest.mark.parametrize(
    "value",
    [-0.1, 1.1, "2", math.nan, math.inf, "nan", "-inf", "1e999", "", "half", None, True, [0.5], {}, "0,5"],
    ids=repr,
)
def test_what_alpha_cannot_be(value: Any) -> None:
    assert refused_option(alpha=value) == f"alpha must be a number from 0 to 1, not {value!r}"


def test_a_number_too_large_for_a_float() -> None:
    assert "alpha must be a number from 0 to 1, not 1000" in refused_option(alpha=10**400)


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ("layer4", ("layer4",)),
        (b"layer4, layer3", ("layer4", "layer3")),
        (["layer4", "layer3"], ("layer4", "layer3")),
    ],
)
def test_layers(given: Any, layers: tuple[str, ...]) -> None:
    assert parse({"data": PICTURE, "layer": given}, {}).options.layer == layers


@pytest.mark.parametrize("given", ["", "layer4,,layer3", [], [3], 7, {"a": 1}])
def test_what_is_no_layer(given: Any) -> None:
    assert "layer must be" in refused_option(layer=given)


@pytest.mark.parametrize(
    ("given", "smooth"), [("true", True), (b"False", False), (True, True), (False, False), ("1", True), (0, False)]
)
def test_smooth(given: Any, smooth: bool) -> None:
    assert parse({"data": PICTURE, "smooth": given}, {}).options.smooth is smooth


@pytest.mark.parametrize("given", ["yes", 2, 1.0, None, [True]])
def test_what_is_neither_true_nor_false(given: Any) -> None:
    assert "smooth must be true or false" in refused_option(smooth=given)


@pytest.mark.parametrize(
    ("name", "near"),
    [("top_k", "topk"), ("TopK", "topk"), ("target", "targets"), ("colourmap", "colormap"), ("layers", "layer")],
)
def test_an_unknown_option_is_told_the_near_name(name: str, near: str) -> None:
    message = refused_option(**{name: 1})
    assert f"{name!r} is not an option" in message
    assert f"did you mean {near!r}" in message
    assert "topk, targets, explain, method, layer, smooth, heatmap, overlay, colormap, alpha" in message


def test_an_unknown_option_without_a_near_name() -> None:
    assert "did you mean" not in refused_option(qqqqqq=1)
    assert "'foo' is not an option" in str(refused({"body": PICTURE}, {"Gradcam-Foo": "1"}))


def test_invalid_utf_8() -> None:
    error = refused({"data": PICTURE, "targets": b"tabby,\xff"})
    assert type(error) is InvalidOption
    assert str(error) == "targets must be UTF-8 text: invalid start byte at byte 6"


def deepest(template: str) -> Any:
    """Returns the document with the deepest list in place of % that `json` still reads."""
    low, high = 1, 100_000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            json.loads(template.replace("%", "[" * middle + "]" * middle))
            low = middle
        except RecursionError:
            high = middle
    return json.loads(template.replace("%", "[" * low + "]" * low))


@pytest.mark.parametrize("member", ["topk", "targets", "alpha", "method", "heatmap"])
def test_json_nested_as_deep_as_it_may_be(member: str) -> None:
    error = refused({"body": deepest(f'{{"image": "{BASE64}", "{member}": %}}')})
    assert type(error) is InvalidOption
    assert str(error).startswith(f"{member} must ")


def test_a_picture_nested_as_deep_as_it_may_be() -> None:
    assert type(refused({"body": deepest('{"image": %}')})) is InvalidRequest


# ----------------------------------------------------------------------------- accept

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", None),
        ("*/*", None),
        ("application/json", None),
        (BROWSER, None),
        ("image/webp", None),
        (" , ;q=1", None),
        ("image/png", "png"),
        ("IMAGE/PNG", "png"),
        ("image/jpeg", "jpeg"),
        ("image/*", "png"),
        ("image/png, */*", "png"),
        ("image/png;q=0.9, image/jpeg", "jpeg"),
        ("application/json;q=0.5, image/png", "png"),
        ("application/json; q=0.5 , image/png ; q=0.6", "png"),
        ("image/png;q=0.5, application/json", None),
        ("image/png; Q=0.1, application/json;q=0.2", None),
        ("image/png;q=high, application/json;q=0.1", None),
        ("image/png;q=0", None),
        ("image/png;q=0.000, image/jpeg;q=0.1", "jpeg"),
    ],
)
def test_accept(accept: str, expected: str | None) -> None:
    request = parse({"body": PICTURE}, {"accept": accept})
    assert (request.accept, request.encoding) == (expected, expected)


@pytest.mark.parametrize("spelling", ["Accept", "accept", "ACCEPT"])
def test_accept_in_any_case(spelling: str) -> None:
    assert parse({"body": PICTURE}, {spelling: "image/png"}).accept == "png"


def test_accept_without_anything_to_draw() -> None:
    error = refused({"body": PICTURE}, {"Accept": "image/png", "Gradcam-Explain": "0"})
    assert type(error) is InvalidOption
    assert "explain: 0 leaves nothing to draw" in str(error)
    assert parse({"body": PICTURE}, {"Accept": "image/png", "Gradcam-Targets": "7"}).accept == "png"


def test_the_encoding_of_the_overlay() -> None:
    assert parse_json().encoding is None
    assert parse_json(overlay="none").encoding is None
    assert parse_json(overlay="jpeg").encoding == "jpeg"
    both = parse({"body": {"image": BASE64, "overlay": "jpeg"}}, {"Accept": "image/png"})
    assert both.encoding == "png"


# ----------------------------------------------------------------------------- reply

HAT = Prediction(515, "cowboy hat", 0.61572345)
JAY = Prediction(17, 'Eichelhäher "jay"', 1.25e-9)
NOTHING = Explanation(JAY, np.zeros((1, 2), np.float32), None, None)
SOMETHING = Explanation(HAT, np.array([[0, 1], [1 / 3, 0.1]], np.float32), (412, 130), None)


def result(*explanations: Explanation, accept: Encoding | None = None, **given: Any) -> Result:
    return Result(
        request=Request(PICTURE, Options(**given), accept),
        predictions=[HAT, JAY],
        explanations=list(explanations),
        method="gradcam",
        layers=("layer4.1.conv2",),
        width=1024,
        height=768,
        region=Region(174, 48, 847, 720),
    )


HEAD = (
    '{"predictions":[{"index":515,"label":"cowboy hat","probability":0.615723},'
    '{"index":17,"label":"Eichelh\\u00e4her \\"jay\\"","probability":1.25e-09}],"explanations":['
)
TAIL = '],"method":"gradcam","layer":"layer4.1.conv2","image":{"width":1024,"height":768,"region":[174,48,847,720]}}'


def test_json_to_the_character() -> None:
    expected = (
        '{"index":515,"label":"cowboy hat","probability":0.615723,"evidence":true,'
        '"heatmap":[[0.0,1.0],[0.333333,0.1]],"peak":[412,130]},'
        '{"index":17,"label":"Eichelh\\u00e4her \\"jay\\"","probability":1.25e-09,"evidence":false,'
        '"heatmap":[[0.0,0.0]],"peak":null}'
    )
    reply = render(result(SOMETHING, NOTHING))
    assert reply == Reply(200, "OK", "application/json", HEAD + expected + TAIL)


def test_json_without_heatmap() -> None:
    expected = '{"index":515,"label":"cowboy hat","probability":0.615723,"evidence":true,"peak":[412,130]}'
    assert render(result(SOMETHING, heatmap="none")).body == HEAD + expected + TAIL


def test_json_without_explanations() -> None:
    assert render(result(explain=0)).body == HEAD + TAIL


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_overlay_as_data_url(kind: str) -> None:
    drawn = dataclasses.replace(SOMETHING, overlay=b"\x89PNG\xff")
    body = render(result(drawn, overlay=kind, heatmap="none")).body
    assert isinstance(body, str)
    assert json.loads(body)["explanations"][0]["overlay"] == f"data:image/{kind};base64,iVBOR/8="


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_overlay_as_the_reply_is_that_of_the_first_target(kind: Encoding) -> None:
    first, second = (dataclasses.replace(SOMETHING, overlay=data) for data in (b"first", b"second"))
    assert render(result(first, second, accept=kind)) == Reply(200, "OK", f"image/{kind}", b"first")


@pytest.mark.parametrize(
    ("error", "status", "phrase", "code"),
    [
        (InvalidRequest("no × picture"), 400, "Bad Request", "invalid_request"),
        (InvalidOption("no × picture"), 400, "Bad Request", "invalid_option"),
        (UndecodableImage("no × picture"), 400, "Bad Request", "undecodable_image"),
        (TooLarge("no × picture"), 413, "Payload Too Large", "image_too_large"),
        (UnknownName("no × picture"), 422, "Unprocessable Entity", "unknown_name"),
        (UnknownName("no × picture", code="unknown_class"), 422, "Unprocessable Entity", "unknown_class"),
    ],
)
def test_errors_to_the_character(error: RequestError, status: int, phrase: str, code: str) -> None:
    body = f'{{"error":{{"code":"{code}","message":"no \\u00d7 picture"}}}}'
    assert render(error) == Reply(status, phrase, "application/json", body, (error,))


def test_json_is_ascii_whatever_the_label() -> None:
    strange = dataclasses.replace(HAT, label="\ud800 \u2028 \x00 猫")
    reply = render(dataclasses.replace(result(), predictions=[strange]))
    assert isinstance(reply.body, str)
    assert reply.body.isascii()
    assert json.loads(reply.body)["predictions"][0]["label"] == "\ud800 \u2028 \x00 猫"


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        render(dataclasses.replace(result(), predictions=[dataclasses.replace(HAT, probability=math.nan)]))
    with pytest.raises(ValueError, match="not JSON compliant"):
        render(result(dataclasses.replace(SOMETHING, heatmap=np.full((1, 1), np.nan, np.float32))))


def test_the_map_survives_the_reply() -> None:
    values = np.random.default_rng(0).random((7, 7), dtype=np.float32)
    body = render(result(dataclasses.replace(SOMETHING, heatmap=values))).body
    assert isinstance(body, str)
    assert np.abs(np.array(json.loads(body)["explanations"][0]["heatmap"]) - values).max() <= 5.1e-7


def test_several_layers_are_a_list_in_the_reply() -> None:
    fused = dataclasses.replace(result(SOMETHING), layers=("layer4", "layer3"))
    assert json.loads(str(render(fused).body))["layer"] == ["layer4", "layer3"]
