"""Requests that share a batch: each gets its own answer, and a bad one fails alone.

The model `batched` waits for eight requests or `BATCH_SECONDS`, whichever comes first. Eight requests that are answered
sooner therefore shared one batch.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence

import numpy as np
import requests

from tests.support.encoding import decoded, encoded
from tests.support.http_client import get
from tests.support.served import BATCH_SECONDS, Call, Model, check, check_overlay, error, parsed, sample

IMAGES = [sample(seed, 200 + 10 * seed, 300 - 7 * seed) for seed in range(20, 28)]
CALLS = [Call(encoded(pixels)) for pixels in IMAGES]


def one_batch(model: Model, calls: Sequence[Call]) -> list[requests.Response]:
    """Send eight requests that share a batch."""
    assert len(calls) == 8
    start = time.monotonic()
    responses = model.post_together(calls)
    assert time.monotonic() - start < BATCH_SECONDS, "the requests did not share a batch"
    return responses


def test_batch_of_eight_equals_eight_single_requests(batched: Model, squash: Model) -> None:
    singles = [parsed(squash.post(call)) for call in CALLS]

    batch = [parsed(response) for response in one_batch(batched, CALLS)]

    for alone, together, pixels in zip(singles, batch, IMAGES, strict=True):
        check(alone, squash, pixels)
        check(together, batched, pixels)
        assert [entry["index"] for entry in alone["predictions"]] == [
            entry["index"] for entry in together["predictions"]
        ]
        first, second = (np.asarray(answer["explanations"][0]["heatmap"]) for answer in (alone, together))
        assert np.abs(first - second).max() <= 1e-5
        assert alone["explanations"][0]["peak"] == together["explanations"][0]["peak"]
        assert alone["image"] == together["image"]


def test_single_request_does_not_wait_for_a_batch(squash: Model) -> None:
    """It is answered although nobody sends another; TorchServe would wait for `maxBatchDelay`."""
    (version,) = get(f"{squash.server.management_url}/models/squash").json()

    assert version["maxBatchDelay"] <= 100
    check(parsed(squash.post(CALLS[0])), squash, IMAGES[0])


def test_good_and_bad_requests_share_a_batch(batched: Model) -> None:
    image, pixels = CALLS[0].body or b"", IMAGES[0]
    big = encoded(np.zeros((8001, 8000), np.uint8))
    calls = [
        Call(image),
        Call(b"not an image"),
        Call(encoded(IMAGES[1]), {"Gradcam-Explain": "3"}),
        Call(encoded(IMAGES[2])[:-2000]),
        Call(big),
        Call(b"%PDF-1.7 and so on"),
        Call(image, {"Gradcam-Targets": "1000"}),
        Call(encoded(IMAGES[3]), {"Gradcam-Targets": "5,281", "Accept": "image/png"}),
    ]

    responses = one_batch(batched, calls)

    check(parsed(responses[0]), batched, pixels)
    assert error(responses[1], 400)[0] == "undecodable_image"
    check(parsed(responses[2]), batched, IMAGES[1], 3)
    assert error(responses[3], 400)[0] == "undecodable_image"
    assert error(responses[4], 413)[0] == "image_too_large"
    assert error(responses[5], 415)[0] == "unsupported_image"
    assert error(responses[6], 422)[0] == "unknown_class"
    assert responses[7].headers["content-type"] == "image/png"
    height, width = IMAGES[3].shape[:2]
    heatmap = batched.expected(IMAGES[3], [5]).heatmaps[5]
    check_overlay(decoded(responses[7].content), IMAGES[3], heatmap, [0, 0, width, height])


def test_batch_of_only_bad_requests_is_rejected(batched: Model) -> None:
    calls = [Call(f"not image number {number}".encode()) for number in range(8)]

    assert {error(response, 400)[0] for response in one_batch(batched, calls)} == {"undecodable_image"}


def test_requests_with_different_options_share_a_batch(batched: Model) -> None:
    endpoints = ["predictions", "explanations"]
    options = [
        {},
        {"explain": "0"},
        {"targets": "1,2,3,4,5"},
        {"explain": "2", "topk": "9"},
        {"targets": "281", "heatmap": "grid"},
        {"topk": "1"},
        {"targets": "999,0"},
        {"explain": "4", "overlay": "jpeg"},
    ]
    targets: list[list[int] | int] = [1, 0, [1, 2, 3, 4, 5], 2, [281], 1, [999, 0], 4]
    topk = [5, 5, 5, 9, 5, 1, 5, 5]
    calls = [
        Call(encoded(pixels), form=form, endpoint=endpoints[number % 2])
        for number, (pixels, form) in enumerate(zip(IMAGES, options, strict=True))
    ]

    answers = [parsed(response) for response in one_batch(batched, calls)]

    for number, answer in enumerate(answers):
        check(answer, batched, IMAGES[number], targets[number], topk[number])


def test_same_image_with_different_targets_shares_a_batch(batched: Model) -> None:
    calls = [Call(CALLS[0].body, {"Gradcam-Targets": str(target)}) for target in range(8)]

    for target, response in enumerate(one_batch(batched, calls)):
        check(parsed(response), batched, IMAGES[0], [target])


def test_describe_header_of_a_client_is_ignored(batched: Model, squash: Model) -> None:
    """TorchServe's base handler would answer the whole batch with one description of the model."""
    headers = {"describe": "True", "explain": "True"}

    alone = squash.post(Call(CALLS[0].body, headers))
    together = one_batch(batched, [Call(call.body, headers) for call in CALLS])

    check(parsed(alone), squash, IMAGES[0])
    for response, pixels in zip(together, IMAGES, strict=True):
        check(parsed(response), batched, pixels)


def test_sixteen_concurrent_requests_get_their_own_answers(squash: Model) -> None:
    broken = Call(json={"image": base64.b64encode(b"nothing").decode()})
    calls = [call for good in CALLS for call in (good, broken)]

    responses = squash.post_together(calls)

    for good, bad, pixels in zip(responses[::2], responses[1::2], IMAGES, strict=True):
        check(parsed(good), squash, pixels)
        assert error(bad, 400)[0] == "undecodable_image"


def test_requests_leave_no_state_behind(squash: Model) -> None:
    first = squash.post(CALLS[0]).content
    squash.post(Call(CALLS[1].body, form={"targets": "1,2,3", "overlay": "png", "topk": "1000"}))
    squash.post(Call(b"not an image"))
    squash.post(Call(CALLS[2].body, {"Accept": "image/png", "Gradcam-Alpha": "1"}))

    assert squash.post(CALLS[0]).content == first
