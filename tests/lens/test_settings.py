"""Settings from environment variables."""

from __future__ import annotations

import pytest

from lens.settings import Settings, SettingsError
from tools import ports


def test_settings_from_the_environment() -> None:
    settings = Settings.from_environment(
        {"LENS_PORT": "1234", "LENS_ANSWER_SECONDS": "2.5", "LENS_MODELS": "a, b", "HOME": "/root"}
    )

    assert (settings.port, settings.answer_seconds, settings.model_names) == (1234, 2.5, ["a", "b"])
    assert settings.host == "127.0.0.1"


def test_default_addresses_are_those_of_the_tools() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == (ports.HOST, ports.LENS)
    assert (settings.inference, settings.management) == (ports.INFERENCE_URL, ports.MANAGEMENT_URL)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"LENS_PROT": "1"}, "Unknown setting LENS_PROT; known settings: LENS_HOST, LENS_PORT"),
        ({"LENS_PORT": "web"}, "LENS_PORT must be a number, got 'web'"),
        ({"LENS_MAX_BODY_BYTES": "0"}, "LENS_MAX_BODY_BYTES must be greater than 0, got 0"),
        ({"LENS_INFERENCE": "torchserve:8080"}, "LENS_INFERENCE must be http://HOST:PORT, got 'torchserve:8080'"),
        ({"LENS_MANAGEMENT": ""}, "LENS_MODELS must list the models"),
    ],
)
def test_invalid_settings(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_environment(environment)
