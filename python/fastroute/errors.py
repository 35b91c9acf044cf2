"""Every error that fastroute raises on purpose.

::

    FastRouteError
    ├── InvalidInputError (ValueError)        an argument's value, shape or layout
    │   └── InvalidTypeError (TypeError)      an argument's type or dtype
    ├── RoutingError                          what RouteLLM's users catch around a call
    │   ├── UnknownRouterError
    │   ├── InvalidThresholdError (ValueError)
    │   ├── InvalidModelNameError (ValueError)
    │   └── InvalidPromptError (ValueError)   messages that hold nothing to route on
    ├── NotFittedError                        a router that was never fitted or loaded
    ├── RatingError (ValueError)              battles that no finite rating explains
    ├── ArtifactError                         a saved router or embedder
    │   ├── ArtifactNotFoundError (FileNotFoundError)
    │   ├── ArtifactTruncatedError
    │   ├── ArtifactChecksumError
    │   └── ArtifactVersionError
    ├── OnnxModelError                        a transformer's ONNX folder, or a run of it
    ├── EmbeddingError                        an embedder could not embed
    ├── ScoringError                          a router's own model could not score
    ├── DispatchError                         a model's API
    │   ├── ProviderConnectionError (ConnectionError)
    │   │   └── AnswerCutError            an answer that broke off; it may have been paid for
    │   ├── ProviderTimeoutError (TimeoutError)
    │   │   └── ProviderConnectTimeoutError   no connection in time; nothing was sent
    │   ├── CircuitOpenError                  a provider that failed so often that it is let be
    │   ├── ProviderStatusError               an HTTP error status, with the provider's own body
    │   └── ProviderResponseError             an answer that can't be read, or an error in a stream
    └── MissingDependencyError (ImportError)  an optional dependency, or the compiled core
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class FastRouteError(Exception):
    """Base of every error that fastroute raises on purpose."""


class InvalidInputError(FastRouteError, ValueError):
    """An argument has a value, shape or memory layout that can't be used."""


class InvalidTypeError(InvalidInputError, TypeError):
    """An argument has a type or dtype that can't be used."""


class RoutingError(FastRouteError):
    """A request that can't be routed as it was asked for (RouteLLM's name)."""


class UnknownRouterError(RoutingError):
    """A router name that isn't known, or wasn't loaded by this controller."""


class InvalidThresholdError(RoutingError, ValueError):
    """A threshold outside 0..1, or no number at all."""


class InvalidModelNameError(RoutingError, ValueError):
    """A ``router-<name>-<threshold>`` string that can't be read."""


class InvalidPromptError(RoutingError, ValueError):
    """Messages in which there is nothing to route on."""


class NotFittedError(FastRouteError):
    """A router is asked for a win rate before it was fitted or loaded."""


class RatingError(FastRouteError, ValueError):
    """Battles whose Bradley-Terry likelihood has no finite maximum."""


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


class DispatchError(FastRouteError):
    """A model's API could not be called, or did not answer."""


class ProviderConnectionError(DispatchError, ConnectionError):
    """No connection to the provider, or one that broke."""


class AnswerCutError(ProviderConnectionError):
    """The answer's body began and broke off. It may have been paid for, so it is not asked for
    again unless the endpoint's ``retry_cut_answers`` says so."""


class ProviderTimeoutError(DispatchError, TimeoutError):
    """The provider did not answer in time."""


class ProviderConnectTimeoutError(ProviderTimeoutError):
    """There was no connection in time, so nothing was sent."""


class CircuitOpenError(DispatchError):
    """Nothing was sent: the endpoint failed several times in a row, a moment ago."""


class ProviderStatusError(DispatchError):
    """The provider answered with an HTTP error status.

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
    """The provider answered with success, and then with what is no answer.

    Attributes:
        body: the provider's body, or the event of its stream, as it came.
    """

    def __init__(self, message: str, *, body: bytes) -> None:
        super().__init__(message)
        self.body = body


class MissingDependencyError(FastRouteError, ImportError):
    """An optional dependency, or the compiled core, is not installed."""
