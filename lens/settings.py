"""Settings of the page's server, read from environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

PREFIX = "LENS_"
SAMPLES = Path(__file__).resolve().parents[1] / "examples"


class SettingsError(ValueError):
    """An invalid environment variable; the message names it."""


@dataclass(frozen=True)
class Settings:
    """One environment variable per field: `LENS_` and the field's name in capitals."""

    host: str = "127.0.0.1"
    port: int = 8090
    inference: str = "http://127.0.0.1:8080"
    """TorchServe's inference API."""
    management: str = "http://127.0.0.1:8081"
    """TorchServe's management API, the source of models, labels, methods, and layers; empty: the page omits them."""
    models: str = ""
    """Models that the page offers, comma-separated; empty: all that the management API lists."""
    inference_token: str = ""
    """Token of the inference API, if TorchServe requires one; browsers never receive it."""
    management_token: str = ""
    samples: str = str(SAMPLES)
    """Folder of sample images; empty: no samples."""
    max_body_bytes: int = 33 * 2**20
    """Maximum size of a request; TorchServe's handler accepts images of up to 32 MiB."""
    max_answer_bytes: int = 64 * 2**20
    """Maximum size of a response of TorchServe."""
    max_concurrent: int = 64
    """Maximum number of simultaneous connections and requests; beyond it the status is 503."""
    upload_seconds: float = 60.0
    """Time limit for a browser to send its image."""
    connect_seconds: float = 5.0
    answer_seconds: float = 60.0
    """Time limit for TorchServe to respond."""

    def __post_init__(self) -> None:
        """Check addresses and ranges."""
        for name in ("inference", "management"):
            address = urlsplit(getattr(self, name))
            required = name == "inference" or self.management
            if required and (address.scheme not in {"http", "https"} or not address.hostname):
                raise SettingsError(f"{PREFIX}{name.upper()} must be http://HOST:PORT, got {getattr(self, name)!r}")
        if not self.management and not self.model_names:
            raise SettingsError(f"Without {PREFIX}MANAGEMENT, {PREFIX}MODELS must list the models")
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and value <= 0:
                raise SettingsError(f"{PREFIX}{field.name.upper()} must be greater than 0, got {value}")

    @property
    def model_names(self) -> list[str]:
        """The names in `models`."""
        return [name.strip() for name in self.models.split(",") if name.strip()]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings from environment variables.

        Raises:
            SettingsError: a variable with the prefix is unknown or invalid.
        """
        types = {field.name: type(field.default) for field in fields(cls)}
        values = {
            name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)
        }
        for name in values:
            if name not in types:
                known = ", ".join(f"{PREFIX}{known.upper()}" for known in types)
                raise SettingsError(f"Unknown setting {PREFIX}{name.upper()}; known settings: {known}")
        return cls(**{name: _parse(name, value, types[name]) for name, value in values.items()})  # type: ignore[arg-type]


def _parse(name: str, value: str, kind: type) -> str | int | float:
    try:
        parsed: str | int | float = kind(value)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}{name.upper()} must be a number, got {value!r}") from error
    return parsed
