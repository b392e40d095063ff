"""Requests that share a batch: each gets its own answer, and a bad one fails alone.

The model `batched` holds a batch back until eight requests are there or `BATCH_SECONDS` are over: eight requests that
are all answered sooner have shared one batch.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence

import numpy as np
import requests

from tests.support.served import (
    BATCH_SECONDS,
    Call,
    Model,
    check,
    check_overlay,
    decoded,
    document,
    encoded,
    error,
    sample,
)

PICTURES = [sample(seed, 200 + 10 * seed, 300 - 7 * seed) for seed in range(20, 28)]
CALLS = [Call(encoded(pixels)) for pixels in PICTURES]


def one_batch(model: Model, calls: Sequence[Call]) -> list[requests.Response]:
    """Sends eight requests that share a batch."""
    assert len(calls) == 8
    start = time.monotonic()
    responses = model.post_together(calls)
    assert time.monotonic() - start < BATCH_SECONDS, "the requests did not share a batch"
    return responses


def test_batch_of_eight_equals_eight_singles(batched: Model, squash: Model) -> None:
    singles = [document(squash.post(call)) for call in CALLS]

    batch = [document(response) for response in one_batch(batched, CALLS)]

    for alone, together, pixels in zip(singles, batch, PICTURES, strict=True):
        check(alone, squash, pixels)
        check(together, batched, pixels)
        assert [entry["index"] for entry in alone["predictions"]] == [
            entry["index"] for entry in together["predictions"]
        ]
        here, there = (np.asarray(answer["explanations"][0]["heatmap"]) for answer in (alone, together))
        assert np.abs(here - there).max() <= 1e-5
        assert alone["explanations"][0]["peak"] == together["explanations"][0]["peak"]
        assert alone["image"] == together["image"]


def test_lone_request_waits_for_no_batch(squash: Model) -> None:
    squash.post(CALLS[0])
    start = time.monotonic()

    squash.post(CALLS[0])

    assert time.monotonic() - start < 5


def test_good_and_bad_rows_share_a_batch(batched: Model) -> None:
    picture, pixels = CALLS[0].body or b"", PICTURES[0]
    big = encoded(np.zeros((8001, 8000), np.uint8))
    calls = [
        Call(picture),
        Call(b"not a picture"),
        Call(encoded(PICTURES[1]), {"Gradcam-Explain": "3"}),
        Call(encoded(PICTURES[2])[:-2000]),
        Call(big),
        Call(b"%PDF-1.7 and so on"),
        Call(picture, {"Gradcam-Targets": "1000"}),
        Call(encoded(PICTURES[3]), {"Gradcam-Targets": "5,281", "Accept": "image/png"}),
    ]

    responses = one_batch(batched, calls)

    check(document(responses[0]), batched, pixels)
    assert error(responses[1], 400)[0] == "undecodable_image"
    check(document(responses[2]), batched, PICTURES[1], 3)
    assert error(responses[3], 400)[0] == "undecodable_image"
    assert error(responses[4], 413)[0] == "image_too_large"
    assert error(responses[5], 415)[0] == "unsupported_image"
    assert error(responses[6], 422)[0] == "unknown_class"
    assert responses[7].headers["content-type"] == "image/png"
    height, width = PICTURES[3].shape[:2]
    heatmap = batched.expected(PICTURES[3], [5]).heatmaps[5]
    check_overlay(decoded(responses[7].content), PICTURES[3], heatmap, [0, 0, width, height])


def test_every_row_bad(batched: Model) -> None:
    calls = [Call(f"not picture number {number}".encode()) for number in range(8)]

    assert {error(response, 400)[0] for response in one_batch(batched, calls)} == {"undecodable_image"}


def test_rows_with_options_of_their_own_share_a_batch(batched: Model) -> None:
    doors = ["predictions", "explanations"]
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
        Call(encoded(pixels), form=form, door=doors[number % 2])
        for number, (pixels, form) in enumerate(zip(PICTURES, options, strict=True))
    ]

    answers = [document(response) for response in one_batch(batched, calls)]

    for number, answer in enumerate(answers):
        check(answer, batched, PICTURES[number], targets[number], topk[number])


def test_same_picture_with_different_targets_shares_a_batch(batched: Model) -> None:
    calls = [Call(CALLS[0].body, {"Gradcam-Targets": str(target)}) for target in range(8)]

    for target, response in enumerate(one_batch(batched, calls)):
        check(document(response), batched, PICTURES[0], [target])


def test_describe_header_of_a_client_changes_nothing(batched: Model, squash: Model) -> None:
    """TorchServe's own handler would describe the model instead of answering, and lose the rest of the batch."""
    headers = {"describe": "True", "explain": "True"}

    alone = squash.post(Call(CALLS[0].body, headers))
    together = one_batch(batched, [Call(call.body, headers) for call in CALLS])

    check(document(alone), squash, PICTURES[0])
    for response, pixels in zip(together, PICTURES, strict=True):
        check(document(response), batched, pixels)


def test_sixteen_at_once(squash: Model) -> None:
    wrong = Call(document={"image": base64.b64encode(b"nothing").decode()})
    calls = [call for good in CALLS for call in (good, wrong)]

    responses = squash.post_together(calls)

    for good, bad, pixels in zip(responses[::2], responses[1::2], PICTURES, strict=True):
        check(document(good), squash, pixels)
        assert error(bad, 400)[0] == "undecodable_image"


def test_nothing_is_left_of_a_request(squash: Model) -> None:
    first = squash.post(CALLS[0]).content
    squash.post(Call(CALLS[1].body, form={"targets": "1,2,3", "overlay": "png", "topk": "1000"}))
    squash.post(Call(b"not a picture"))
    squash.post(Call(CALLS[2].body, {"Accept": "image/png", "Gradcam-Alpha": "1"}))

    assert squash.post(CALLS[0]).content == first
