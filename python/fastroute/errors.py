"""The errors of fastroute: one tree, which ``except FastRouteError`` catches whole.

::

    FastRouteError
    ├── InvalidInputError (ValueError)        an argument's value, shape or memory layout
    │   ├── InvalidTypeError (TypeError)      an argument's type or dtype
    │   ├── ConfigError                       a gateway's config file
    │   └── BodyError                         a request body that is not a JSON object
    ├── RoutingError                          RouteLLM's base class for errors of a call
    │   ├── UnknownRouterError
    │   ├── InvalidThresholdError (ValueError)
    │   ├── InvalidModelNameError (ValueError)
    │   ├── InvalidPromptError (ValueError)   messages without text to route on
    │   └── NoEligibleModelError              no candidate can answer the request
    ├── NotFittedError                        a router that was neither fitted nor loaded
    ├── RatingError (ValueError)              battles without finite ratings
    ├── ContaminationError (ValueError)       an evaluation on prompts that were trained on
    ├── ArtifactError                         a saved router or embedder
    │   ├── ArtifactNotFoundError (FileNotFoundError)
    │   ├── ArtifactTruncatedError
    │   ├── ArtifactChecksumError
    │   └── ArtifactVersionError
    ├── OnnxModelError                        an ONNX model: its files, or a run of it
    ├── EmbeddingError                        an embedder that failed
    ├── ScoringError                          a router's own model that failed
    ├── DispatchError                         a call to a model's API
    │   ├── ProviderConnectionError (ConnectionError)
    │   │   └── AnswerCutError                an interrupted response; it may have been billed
    │   ├── ProviderTimeoutError (TimeoutError)
    │   │   └── ProviderConnectTimeoutError   no connection in time; nothing was sent
    │   ├── CircuitOpenError                  a provider that is skipped after repeated failures
    │   ├── ProviderStatusError               an HTTP error status, with the provider's body
    │   └── ProviderResponseError             a malformed response, or an error within a stream
    ├── JournalError                          a journal's database
    ├── WorkerError                           a process that worked on a part was killed
    ├── OutputError                           a command's standard output, or files that it writes
    ├── MissingDependencyError (ImportError)  an optional package, or the compiled core
    └── RefusalError                          inside the gateway: answered with an HTTP error

The last is defined in ``fastroute.gateway`` and never reaches a caller. Every error can be
copied and pickled with its attributes; as with any Python exception, its cause and traceback are
not part of the copy. ``ThresholdWarning`` is a warning, a UserWarning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "AnswerCutError",
    "ArtifactChecksumError",
    "ArtifactError",
    "ArtifactNotFoundError",
    "ArtifactTruncatedError",
    "ArtifactVersionError",
    "BodyError",
    "CircuitOpenError",
    "ConfigError",
    "ContaminationError",
    "DispatchError",
    "EmbeddingError",
    "FastRouteError",
    "InvalidInputError",
    "InvalidModelNameError",
    "InvalidPromptError",
    "InvalidThresholdError",
    "InvalidTypeError",
    "JournalError",
    "MissingDependencyError",
    "NoEligibleModelError",
    "NotFittedError",
    "OnnxModelError",
    "OutputError",
    "ProviderConnectTimeoutError",
    "ProviderConnectionError",
    "ProviderResponseError",
    "ProviderStatusError",
    "ProviderTimeoutError",
    "RatingError",
    "RoutingError",
    "ScoringError",
    "ThresholdWarning",
    "UnknownRouterError",
    "WorkerError",
]


class FastRouteError(Exception):
    """Base class of fastroute's errors."""

    # Exception's own method calls the class with ``args`` alone, which fails where the class has
    # required keywords. An error that a worker process can't send keeps its Pool waiting.
    def __reduce__(self) -> tuple[Any, ...]:
        made: Any = super().__reduce__()
        kind, args, *state = made
        return _restore, (kind, args), *state


def _restore(kind: type[FastRouteError], args: tuple[Any, ...]) -> FastRouteError:
    """An error without a call of ``__init__``; its attributes follow as its state."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class InvalidInputError(FastRouteError, ValueError):
    """An argument has a value, shape or memory layout that can't be used."""


class InvalidTypeError(InvalidInputError, TypeError):
    """An argument has a type or dtype that can't be used."""


class ConfigError(InvalidInputError):
    """A gateway's config can't be used; each line of the message names a line and a key of it."""


class BodyError(InvalidInputError):
    """The body of a request is not a JSON object in UTF-8."""


class RoutingError(FastRouteError):
    """A request that can't be routed (RouteLLM's name)."""


class UnknownRouterError(RoutingError):
    """An unknown router, or one that was not loaded."""


class InvalidThresholdError(RoutingError, ValueError):
    """A threshold that is not a number in 0..1."""


class InvalidModelNameError(RoutingError, ValueError):
    """A ``router-<name>-<threshold>`` string that is malformed."""


class InvalidPromptError(RoutingError, ValueError):
    """Messages without text to route on."""


class NoEligibleModelError(RoutingError):
    """No candidate can answer a request.

    Attributes:
        reasons: why not, by the model's name.
    """

    def __init__(self, message: str, *, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})


class NotFittedError(FastRouteError):
    """A router is asked for a win rate before it was fitted or loaded."""


class RatingError(FastRouteError, ValueError):
    """Battles whose Bradley-Terry likelihood has no finite maximum."""


class ContaminationError(FastRouteError, ValueError):
    """A router was trained on prompts that it would be evaluated on."""


class ArtifactError(FastRouteError):
    """A saved router or embedder that can't be used."""


class ArtifactNotFoundError(ArtifactError, FileNotFoundError):
    """A file of an artifact is missing."""


class ArtifactTruncatedError(ArtifactError):
    """A file of an artifact is shorter or longer than its manifest says."""


class ArtifactChecksumError(ArtifactError):
    """A file of an artifact has the right length and the wrong content."""


class ArtifactVersionError(ArtifactError):
    """An artifact was written by a newer fastroute than this one."""


class OnnxModelError(FastRouteError):
    """A transformer in an ONNX folder could not be fetched, loaded or run."""


class EmbeddingError(FastRouteError):
    """An embedder could not turn a prompt into a vector."""


class ScoringError(FastRouteError):
    """A router's own model could not be loaded, or could not score a prompt."""


class ThresholdWarning(UserWarning):
    """A threshold outside a router's calibrated range: one model gets all the usual prompts."""


class DispatchError(FastRouteError):
    """A model's API could not be called, or did not answer."""


class ProviderConnectionError(DispatchError, ConnectionError):
    """No connection to the provider, or one that broke."""


class AnswerCutError(ProviderConnectionError):
    """The response was interrupted after its body began. It may have been billed, so the request is
    not repeated unless the endpoint's ``retry_cut_answers`` says so."""


class ProviderTimeoutError(DispatchError, TimeoutError):
    """The provider did not respond in time."""


class ProviderConnectTimeoutError(ProviderTimeoutError):
    """There was no connection in time, so nothing was sent."""


class CircuitOpenError(DispatchError):
    """Nothing was sent: the endpoint has just failed several times in a row."""


class ProviderStatusError(DispatchError):
    """The provider responded with an HTTP error status.

    Attributes:
        status_code: the provider's HTTP status.
        body: the provider's body, as it came.
        headers: the provider's headers, names in lower case; the values of one that was repeated
            are joined by commas.
        raw_headers: the same as bytes, in their order, repeats apart.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        body: bytes,
        headers: Mapping[str, str],
        raw_headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.body = body
        self.headers = dict(headers)
        self.raw_headers = tuple(raw_headers)


class ProviderResponseError(DispatchError):
    """The provider reported success, and its response is malformed.

    Attributes:
        body: the provider's body, or the event of its stream, as it came.
    """

    def __init__(self, message: str, *, body: bytes) -> None:
        super().__init__(message)
        self.body = body


class JournalError(FastRouteError):
    """A journal's database can't be opened, read or written, or its schema is newer."""


class WorkerError(FastRouteError):
    """A process that worked on a part was killed, by the system or a person."""


class OutputError(FastRouteError):
    """Standard output, or a file that a command writes, can't be written."""


class MissingDependencyError(FastRouteError, ImportError):
    """An optional dependency, or the compiled core, is not installed."""
