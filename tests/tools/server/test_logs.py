"""Why a model could not be loaded, according to TorchServe's output."""

from __future__ import annotations

from tools.server.logs import load_failure, worker_ended

START = ["Torch worker started.", "model_name: cat, batchSize: 8"]
DIED = "Backend worker process died."
TRACEBACK = "Traceback (most recent call last):"


def log(*lines: str, worker: str = "W-9000-cat_1.0") -> list[str]:
    """Return lines of a worker as TorchServe prints them."""
    return [f"2026-01-01T00:00:00,000 [INFO ] {worker}-stdout MODEL_LOG - {line}" for line in lines]


def end_of(worker: str) -> str:
    """Return TorchServe's line about the end of a worker's output."""
    return f"[INFO ] {worker}-stdout org.pytorch.serve.wlm.WorkerLifeCycle - Stopped Scanner - {worker}-stdout"


def test_end_of_a_worker() -> None:
    assert worker_ended("cat", [end_of("W-9000-cat_1.0")])
    assert worker_ended("cat_dog", [end_of("W-9000-cat_dog_1.0")])


def test_end_of_another_models_worker() -> None:
    assert not worker_ended("cat", [*log(*START), end_of("W-9000-cat_dog_1.0"), end_of("W-9000-tomcat_1.0")])


def test_failure_is_the_exception() -> None:
    output = [*log("Backend of the dog", worker="W-9000-dog_1.0"), *log(*START, DIED, TRACEBACK, "KeyError: 'layer9'")]
    assert load_failure("cat", output).split("\n  ") == ["KeyError: 'layer9'", DIED, TRACEBACK, "KeyError: 'layer9'"]


def test_failure_to_import_is_not_that_of_the_handler() -> None:
    cause = "ModuleNotFoundError: No module named 'yaml'"
    search = ["", "During handling of the above exception, another exception occurred:", "", TRACEBACK]
    masking = "ModuleNotFoundError: No module named 'ts.torch_handler.gradcam_handler'"
    failure = load_failure("cat", log(*START, DIED, TRACEBACK, cause, *search, masking))
    assert failure.split("\n  ") == [cause, DIED, TRACEBACK, cause]


def test_failure_is_the_first_of_two_runtime_errors() -> None:
    logged = ["Failed to load model cat, exception 3 classes", TRACEBACK, "RuntimeError: 3 classes"]
    failure = load_failure("cat", log(*START, *logged, DIED, TRACEBACK, "RuntimeError: 500 - Unknown exception"))
    assert failure.split("\n  ") == ["RuntimeError: 3 classes", *logged]


def test_failure_without_exception() -> None:
    assert load_failure("cat", log(*START, "Loading")) == (
        "its worker ended without an exception; out of memory?\n  Loading"
    )
