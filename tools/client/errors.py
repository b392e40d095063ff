"""Errors of the client.

ClientError
├── ImageError             one image has no answer; the others may have theirs
│   ├── ImageRejected      the model's handler rejected it, with a code
│   │   └── OptionRejected  because of an option: it would reject every image
│   └── InvalidResponse    the response is not that of a Grad-CAM model
└── ServerUnavailable      no server listens: every further request would fail
    └── ModelNotFound      the server does not serve the model
"""

from __future__ import annotations

# Codes of the handler's errors that depend on the options and the model, not on the image.
OPTION_CODES = frozenset({"unknown_class", "ambiguous_class", "unknown_method", "unknown_layer", "too_many_targets"})


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
    """The model's handler rejected an option, as it would for every image."""


class InvalidResponse(ImageError):
    """The response is not that of a Grad-CAM model, so another handler serves the model."""


class ServerUnavailable(ClientError):
    """The server cannot answer for any image: it does not listen, or does not serve the model."""


class ModelNotFound(ServerUnavailable):
    """The server does not serve the model."""
