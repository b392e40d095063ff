"""Errors of the client.

ClientError
├── ImageError             one image has no answer; the others may have theirs
│   ├── ImageRejected      the model's handler rejected it, with a code
│   │   └── OptionRejected  because of an option, which other images may have, too
│   └── InvalidResponse    the response is not that of a Grad-CAM model
└── ServerUnavailable      no server listens: every further request would fail
    └── ModelNotFound      the server does not serve the model
"""

from __future__ import annotations

# Codes of the handler's errors that are about the options, which are the same for all images of a run.
OPTION_CODES = frozenset(
    {
        "invalid_option",
        "unknown_class",
        "ambiguous_class",
        "unknown_method",
        "method_not_allowed",
        "unknown_layer",
        "too_many_targets",
        "too_many_passes",
    }
)


class ClientError(Exception):
    """Base class of the client's errors."""


class ImageError(ClientError):
    """One image has no answer; the others may have theirs."""


class ImageRejected(ImageError):
    """The model's handler rejected the request."""

    def __init__(self, code: str, message: str, status: int) -> None:
        """Store the parts of the handler's error.

        Args:
            code: for programs, such as `undecodable_image`; docs/requests.md lists the codes.
            message: for people.
            status: of the HTTP response.
        """
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class OptionRejected(ImageRejected):
    """The model's handler rejected an option, as it would for other images."""


class InvalidResponse(ImageError):
    """The response is not that of a Grad-CAM model, so another handler serves the model."""


class ServerUnavailable(ClientError):
    """The server cannot answer for any image: it does not listen, or does not serve the model."""


class ModelNotFound(ServerUnavailable):
    """The server does not serve the model."""
