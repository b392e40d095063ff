"""While a map is computed: what the page says, how to cancel, and which map is outdated."""

from __future__ import annotations

import re
from typing import Any

from tests.support.lens_page import EXAMPLES, Lens

CHELSEA = EXAMPLES / "chelsea.jpg"

RECORD = """() => {
  window.seen = [];
  const record = () => {
    const shown = document.querySelector("#error").hidden ? "" : document.querySelector("#error-title").textContent;
    window.seen.push([shown, document.querySelector("#status").textContent]);
  };
  new MutationObserver(record).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""


def wait_until_held(lens: Lens, held: list[Any], count: int = 1) -> None:
    while len(held) < count:
        lens.page.wait_for_timeout(20)


def request_slow_map(lens: Lens) -> list[Any]:
    held = lens.hold()
    lens.page.select_option("#method", "layercam")
    wait_until_held(lens, held)
    return held


def test_the_page_says_what_it_waits_for(lens: Lens) -> None:
    lens.explain(CHELSEA)
    held = request_slow_map(lens)

    assert lens.page.locator("#status").inner_text() == "Explaining Egyptian cat with layercam"
    assert re.fullmatch(r"\d+ s", lens.page.locator("#elapsed").inner_text())
    lens.page.wait_for_function("() => parseInt(document.querySelector('#elapsed').textContent) >= 1")
    assert lens.page.locator("#method-hint").inner_text().startswith("Finer maps")
    assert lens.page.locator(".outdated .outdated-note").inner_text() == (
        "Outdated: the map for Egyptian cat with gradcam. The new one is being computed."
    )
    assert lens.page.locator("#save-overlay").is_disabled()
    held[0].continue_()
    lens.settle()
    assert lens.page.locator(".outdated").count() == 0
    assert lens.page.locator("#progress").is_hidden()


def test_canceling_returns_to_the_previous_map(lens: Lens) -> None:
    lens.explain(CHELSEA)
    before = lens.pixels()
    request_slow_map(lens)

    lens.page.get_by_role("button", name="Cancel").click()

    lens.settle()
    assert lens.page.locator("#status").inner_text() == "Canceled"
    assert lens.page.locator("#method").input_value() == ""
    assert lens.page.locator(".outdated").count() == 0
    assert (lens.pixels() == before).all()
    lens.page.unroute("**/predictions/**")
    lens.pick("tiger cat")
    assert lens.title() == "tiger cat"


def test_a_second_choice_replaces_the_first(lens: Lens) -> None:
    lens.explain(CHELSEA)
    held = request_slow_map(lens)
    lens.page.select_option("#layer", "_blocks.10")
    wait_until_held(lens, held, 2)
    held[1].continue_()
    lens.settle()

    expected = lens.overlay(CHELSEA, 285, method="layercam", layer="_blocks.10")
    assert abs(lens.pixels().astype(int) - expected).mean() < 1
    assert lens.page.locator("#method").input_value() == "layercam"


def test_canceling_the_first_request_of_an_image(lens: Lens) -> None:
    held = lens.hold()
    lens.choose(CHELSEA)
    wait_until_held(lens, held)
    lens.page.get_by_role("button", name="Cancel").click()
    lens.settle()
    assert lens.page.locator("#workbench").is_hidden()
    assert lens.page.locator("#status").inner_text() == "Canceled"
    lens.page.unroute("**/predictions/**")
    lens.explain(CHELSEA)


def test_a_server_that_starts_is_not_one_that_does_not_respond(lens: Lens) -> None:
    """TorchServe responds to /ping before a model is loaded, and answers requests with 503."""
    failures = 2

    def respond(route: Any) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            route.fulfill(status=503, json={"code": 503, "type": "ServiceUnavailableException", "message": "No worker"})
        else:
            route.continue_()

    lens.page.route("**/predictions/**", respond)
    lens.page.evaluate(RECORD)
    lens.explain(CHELSEA)

    seen = {(title, status) for title, status in lens.page.evaluate("window.seen")}
    titles = {title for title, _ in seen}
    assert "The server is starting or busy. This page keeps trying and continues automatically." in titles
    assert not any(title.startswith("The server is not responding") for title in titles)
    busy = {title for title, status in seen if "is analyzing" in status}
    assert busy == {"", "The server responds again. Trying once more …"}
