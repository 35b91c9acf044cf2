"""Sections ``[endpoint]`` and ``[models.<name>]``: where models are, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fastroute.gateway.config.section import Amount, Seconds, Secret, Section, Text, TupleOf, passes
from fastroute.http.address import read_base_url
from fastroute.http.request import Endpoint

ANTHROPIC_BASE_URL = "https://api.anthropic.com/v1"


@dataclass(frozen=True)
class Target:
    """One endpoint of a model, and the model's name there."""

    endpoint: Endpoint
    model: str
    weight: float = 1.0


@dataclass(frozen=True)
class ModelConfig:
    """The endpoints of a model, and its prices; None where they are not known."""

    name: str
    targets: tuple[Target, ...]
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    cached_input_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None


class EndpointSection(Section):
    """What an endpoint is, wherever it is given."""

    base_url: Annotated[Text, passes(partial(read_base_url, path=""))] | None = None
    api_key: Secret | None = Field(default=None, alias="api_key_env", repr=False)
    timeout_s: Seconds = Endpoint.timeout_s
    connect_timeout_s: Seconds = Endpoint.connect_timeout_s
    first_byte_timeout_s: Seconds | None = None
    retry_cut_answers: bool = False
    api: Literal["openai", "anthropic"] = "openai"

    def endpoint(self, default: Endpoint) -> Endpoint:
        """The endpoint; ``default`` has what the section does not say. Address, key and API belong
        together: a section with one of them inherits none of the others."""
        names = EndpointSection.model_fields.keys() & self.model_fields_set
        given = {name: getattr(self, name) for name in names}
        if given.keys() & {"base_url", "api_key", "api"}:
            given |= {"base_url": self.base_url, "api_key": self.api_key, "api": self.api}
            if self.api == "anthropic" and self.base_url is None:
                given["base_url"] = ANTHROPIC_BASE_URL
        return replace(default, **given)


class DefaultEndpointSection(EndpointSection):
    """Section ``[endpoint]``: the endpoint of every model that has none of its own."""

    other_models: bool = True


class TargetSection(EndpointSection):
    """One of the endpoints of a model."""

    model: Text | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0


class ModelSection(TargetSection):
    """Section ``[models.<name>]``: where a model is, and what it costs."""

    input_usd_per_mtok: Amount | None = None
    output_usd_per_mtok: Amount | None = None
    cached_input_usd_per_mtok: Amount | None = None
    cache_write_usd_per_mtok: Amount | None = None
    endpoints: TupleOf[TargetSection] = ()

    @field_validator("endpoints")
    @classmethod
    def _is_alone(
        cls, endpoints: tuple[TargetSection, ...], info: ValidationInfo
    ) -> tuple[TargetSection, ...]:
        beside = [name for name in ("base_url", "api_key", "model") if info.data.get(name)]
        if endpoints and beside:
            raise ValueError(f"give {beside[0]} in each of endpoints, not beside them")
        return endpoints

    def configured(self, name: str, default: Endpoint) -> ModelConfig:
        """The model ``name``; ``default`` has what its endpoints do not say."""
        targets = tuple(
            Target(target.endpoint(default), target.model or name, target.weight)
            for target in self.endpoints or (self,)
        )
        fields = ModelSection.model_fields
        prices = {key: getattr(self, key) for key in fields if key.endswith("_usd_per_mtok")}
        return ModelConfig(name, targets, **prices)
