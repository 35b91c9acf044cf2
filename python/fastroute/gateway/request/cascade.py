"""What the section ``[cascade]`` asks for: the settings of cascades, and what sends them."""

from __future__ import annotations

from fastroute.evidence.acceptance import AcceptanceModel
from fastroute.evidence.cascade import CascadeSettings
from fastroute.evidence.request import CascadeRequest, send_cascade
from fastroute.gateway.config.cascade import CascadeConfig
from fastroute.http.request import AsyncResponse, AsyncTransport, Request
from fastroute.resilience.wrapping import WrappingTransport


class CascadeTransport(WrappingTransport):
    """Sends a CascadeRequest as a cascade, every other request as it is.

    It is the outermost transport, so that each call of a cascade has its own retries, is balanced,
    known to the breakers and billed.
    """

    def __init__(self, inner: AsyncTransport, settings: CascadeSettings) -> None:
        super().__init__(inner)
        self._settings = settings

    async def asend(self, request: Request) -> AsyncResponse:
        """Send; the ``evidence`` of the answer says how a cascade chose it."""
        if isinstance(request, CascadeRequest):
            return await send_cascade(self.inner, self._settings, request)
        return await self.inner.asend(request)


def cascade_settings(section: CascadeConfig) -> CascadeSettings:
    """The settings of a section.

    Raises ArtifactError for an acceptance model that can't load, InvalidInputError for one of other
    cheap models.
    """
    folder = section.acceptance
    settings = CascadeSettings(
        quorum=section.quorum,
        deadline_s=section.deadline_s,
        early_strong_s=section.early_strong_s,
        threshold=section.threshold,
        acceptance=None if folder is None else AcceptanceModel.load(folder),
        expectation=section.expectation,
        logprobs=section.logprobs,
    )
    settings.check_models(1 + len(section.helpers))
    return settings
