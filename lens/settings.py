"""What the environment says about the server of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

PREFIX = "LENS_"
SAMPLES = Path(__file__).resolve().parents[1] / "examples"


class SettingsError(ValueError):
    """A variable of the environment that is not right; the message names it."""


@dataclass(frozen=True)
class Settings:
    """Of the environment's variables: `LENS_` and a field's name in capitals."""

    host: str = "127.0.0.1"
    port: int = 8090
    inference: str = "http://127.0.0.1:8080"
    """TorchServe's inference API."""
    management: str = "http://127.0.0.1:8081"
    """Its management API, which knows models, labels, methods and layers; empty: the page does without."""
    models: str = ""
    """The models that the page offers, parted by commas; empty: all that the management API lists."""
    inference_token: str = ""
    """For the inference API, where TorchServe wants one; it never reaches a browser."""
    management_token: str = ""
    samples: str = str(SAMPLES)
    """Folder of pictures to try; empty for none."""
    max_body_bytes: int = 33 * 2**20
    """The largest request: TorchServe's handler takes pictures of 32 MiB."""
    max_answer_bytes: int = 64 * 2**20
    """The largest answer of TorchServe that is passed on."""
    max_concurrent: int = 64
    """Connections and requests at once; more are a 503."""
    upload_seconds: float = 60.0
    """What a browser may take to send its picture."""
    connect_seconds: float = 5.0
    answer_seconds: float = 60.0
    """What TorchServe may take to answer."""

    def __post_init__(self) -> None:
        """Checks addresses and ranges."""
        for name in ("inference", "management"):
            address = urlsplit(getattr(self, name))
            wanted = name == "inference" or self.management
            if wanted and (address.scheme not in {"http", "https"} or not address.hostname):
                raise SettingsError(f"{PREFIX}{name.upper()} must be http://HOST:PORT, not {getattr(self, name)!r}")
        if not self.management and not self.model_names:
            raise SettingsError(f"without {PREFIX}MANAGEMENT, {PREFIX}MODELS must name the models")
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and value <= 0:
                raise SettingsError(f"{PREFIX}{field.name.upper()} must be greater than 0, not {value}")

    @property
    def model_names(self) -> list[str]:
        """The models named."""
        return [name.strip() for name in self.models.split(",") if name.strip()]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Reads the variables.

        Raises:
            SettingsError: one is not known, or its value is not right.
        """
        kinds = {field.name: type(field.default) for field in fields(cls)}
        given = {
            name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)
        }
        for name in given:
            if name not in kinds:
                raise SettingsError(f"{PREFIX}{name.upper()} is not a setting (there are {', '.join(kinds)})")
        return cls(**{name: _read(name, value, kinds[name]) for name, value in given.items()})  # type: ignore[arg-type]


def _read(name: str, value: str, kind: type) -> str | int | float:
    try:
        read: str | int | float = kind(value)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}{name.upper()} must be a number, not {value!r}") from error
    return read
