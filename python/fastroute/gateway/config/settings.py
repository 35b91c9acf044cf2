"""The sections of a gateway's configuration, validated by pydantic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic_core import InitErrorDetails

from fastroute.candidates import Candidate
from fastroute.errors import FastRouteError
from fastroute.gateway.config.candidates import (
    PolicyConfig,
    RuleConfig,
    check_candidates_section,
    endpoint_of,
    prices_for_bills,
    read_section,
)
from fastroute.gateway.config.cascade import CascadeConfig
from fastroute.gateway.config.endpoints import (
    DefaultEndpointSection,
    ModelConfig,
    ModelSection,
)
from fastroute.gateway.config.file import ConfigFile, Key, read_config_file
from fastroute.gateway.config.journal import (
    ExploreConfig,
    JournalConfig,
    LearnConfig,
    ShadowConfig,
)
from fastroute.gateway.config.problems import config_error
from fastroute.gateway.config.rollout import CanaryConfig, DriftConfig
from fastroute.gateway.config.section import (
    Amount,
    Count,
    PositiveCount,
    Reading,
    Seconds,
    Section,
    Share,
    Text,
    TupleOf,
    passes,
)
from fastroute.gateway.config.state import BudgetsConfig, StateConfig
from fastroute.http.request import Endpoint
from fastroute.policy import parse_model_name
from fastroute.routers.registry import ROUTER_NAMES, find_spec
from fastroute.routers.specification import RouterChoice, parse_router
from fastroute.share_control import HeldShare


def _digest(value: object) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("must be 64 hexadecimal digits; fastroute serve --hash-key prints them")
    return bytes.fromhex(value)


def _check_router(name: str) -> str:
    if name not in ROUTER_NAMES:
        raise ValueError(f"unknown router {name[:80]!r}; known: {', '.join(ROUTER_NAMES)}")
    return name


def _router_choice(value: object) -> RouterChoice:
    if not isinstance(value, str):
        raise ValueError("must be a string: NAME, NAME=FOLDER or NAME,KEY=VALUE")
    try:
        return parse_router(value)
    except FastRouteError as error:
        raise ValueError(str(error)) from error


def _pair_model(name: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> str:
    is_pairless = info.context is not None and info.context.is_pairless
    return "" if name == "" and is_pairless else str(check(name))


PairModel = Annotated[Text, WrapValidator(_pair_model)]
RouterName = Annotated[str, AfterValidator(_check_router)]


class ServerConfig(Section):
    """Section ``[server]``: where to listen, and how much to take on."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 6060
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    max_body_bytes: PositiveCount = 32 * 2**20
    max_concurrency: PositiveCount = 1024
    retry_after_s: Amount = 1.0
    body_timeout_s: Seconds = 30.0
    shutdown_timeout_s: Amount = 30.0
    page: bool = True
    log_prompts: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    opentelemetry: bool = False
    max_provider_header_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024


class SessionAffinityConfig(Section):
    """Section ``[routing.session_affinity]``: when a conversation stays with its model."""

    by: Literal["messages", "user", "header", "none"] = "messages"
    header: Annotated[Text, AfterValidator(str.lower)] = "x-session-id"
    margin: Share = 0.1
    short_chars: Count = 40
    ttl_s: Seconds = 3600.0
    max_sessions: PositiveCount = 100_000


class HeldShareConfig(Section):
    """Section ``[routing.held_share]``: how ``strong_share`` is held on live traffic."""

    enabled: bool = False
    step: Annotated[float, Field(gt=0, le=1)] = 0.005
    window: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    min_threshold: Share = 0.0
    max_threshold: Share = 1.0

    @field_validator("max_threshold")
    @classmethod
    def _is_the_greatest(cls, most: float, info: ValidationInfo) -> float:
        least = info.data.get("min_threshold", 0.0)
        if least > most:
            raise ValueError(f"must be at least min_threshold, which is {least:g}")
        return most


class RoutingConfig(Section):
    """Section ``[routing]``: which routers decide, between which models, on what."""

    strong_model: PairModel
    weak_model: PairModel
    default_model: Annotated[Text, passes(parse_model_name)] | None = None
    routers: TupleOf[Annotated[RouterChoice, PlainValidator(_router_choice)]] = ()
    router: Annotated[RouterName, Field(validate_default=True)] = ""
    threshold: Share | None = None
    strong_share: Share | None = None
    window: Annotated[int, Field(ge=1, le=100)] = 1
    held_share: HeldShareConfig = HeldShareConfig()
    session_affinity: SessionAffinityConfig = SessionAffinityConfig()

    @field_validator("routers")
    @classmethod
    def _are_different(cls, choices: tuple[RouterChoice, ...]) -> tuple[RouterChoice, ...]:
        names = [choice.name for choice in choices]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"router {twice} is given twice")
        return choices

    @field_validator("router", mode="before")
    @classmethod
    def _is_loaded(cls, name: Any, info: ValidationInfo) -> Any:
        names = [choice.name for choice in info.data.get("routers", ())]
        if name == "":
            return names[0] if names else "mf"
        if names and name in ROUTER_NAMES and name not in names:
            raise ValueError(f"{name!r} is not one of routers: {', '.join(names)}")
        return name

    @field_validator("strong_share")
    @classmethod
    def _is_alone(cls, share: float | None, info: ValidationInfo) -> float | None:
        if share is not None and info.data.get("threshold") is not None:
            raise ValueError("give threshold or strong_share, not both")
        return share

    @field_validator("held_share")
    @classmethod
    def _has_a_share(cls, held: HeldShareConfig, info: ValidationInfo) -> HeldShareConfig:
        if held.enabled and info.data.get("strong_share") is None:
            raise ValueError("enabled needs strong_share, the share to hold")
        return held

    @property
    def router_names(self) -> tuple[str, ...]:
        """The routers to load; none without a pair of models."""
        if not self.strong_model:
            return ()
        return tuple(choice.name for choice in self.routers) or (self.router,)

    @property
    def held(self) -> HeldShare | None:
        """The share to hold on live traffic, and how."""
        if self.strong_share is None or not self.held_share.enabled:
            return None
        return HeldShare(self.strong_share, **self.held_share.model_dump(exclude={"enabled"}))


class ResilienceConfig(Section):
    """Section ``[resilience]``: what is done when a provider fails or is late."""

    retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_budget: Share = 0.2
    total_timeout_s: Seconds = 900.0
    fallback: Literal["none", "strong_to_weak", "weak_to_strong", "both"] = "none"
    breaker_failures: Count = 5
    breaker_open_s: Seconds = 10.0
    redundancy_quantile: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    redundancy_delay_s: Amount | None = None
    redundancy_budget: Share = 0.05
    redundancy: Literal["none", "hedge", "delayed", "relaunch"] = "none"

    @field_validator("redundancy")
    @classmethod
    def _has_a_delay(cls, mode: str, info: ValidationInfo) -> str:
        if mode in ("delayed", "relaunch") and info.data.get("redundancy_delay_s") is None:
            raise ValueError(f"{mode!r} needs redundancy_delay_s")
        return mode


class KeyConfig(Section):
    """A ``[[keys]]`` table: a caller, and the SHA-256 digest of the key."""

    name: Text = ""
    sha256: Annotated[bytes, BeforeValidator(_digest)] = Field(repr=False)


class ConfigSections(Section):
    """The whole file."""

    server: ServerConfig = ServerConfig()
    price_list: Text | None = None
    candidates: Annotated[Any, PlainValidator(check_candidates_section)] = None
    policy: PolicyConfig = PolicyConfig()
    rules: TupleOf[RuleConfig] = ()
    routing: RoutingConfig
    routers: dict[RouterName, dict[str, Any]] = Field(default_factory=dict)
    endpoint: DefaultEndpointSection = DefaultEndpointSection()
    models: dict[str, ModelSection] = Field(default_factory=dict)
    resilience: ResilienceConfig = ResilienceConfig()
    cascade: CascadeConfig | None = None
    journal: JournalConfig | None = None
    shadow: ShadowConfig | None = None
    explore: ExploreConfig | None = None
    learn: LearnConfig | None = None
    canary: CanaryConfig | None = None
    drift: DriftConfig | None = None
    keys: TupleOf[KeyConfig] = ()
    state: StateConfig | None = None
    budgets: BudgetsConfig | None = None

    @field_validator("keys")
    @classmethod
    def _have_names(cls, keys: tuple[KeyConfig, ...]) -> tuple[KeyConfig, ...]:
        named = enumerate(keys)
        return tuple(k.model_copy(update={"name": k.name or f"key {i}"}) for i, k in named)

    @field_validator("budgets")
    @classmethod
    def _can_hold(cls, budgets: BudgetsConfig | None, info: ValidationInfo) -> BudgetsConfig | None:
        if budgets is not None and {"routing", "server", "models"} <= info.data.keys():
            budgets.check(info.data)
        return budgets

    @field_validator("shadow", "explore", "learn", "canary", "drift")
    @classmethod
    def _is_recorded(cls, section: Any, info: ValidationInfo) -> Any:
        if section is not None and info.data.get("journal") is None:
            raise ValueError("needs the section [journal], where outcomes are recorded")
        if isinstance(section, LearnConfig) and not info.data["journal"].prompts:
            raise ValueError("needs prompts = true in [journal], to learn from")
        routing = info.data.get("routing")
        has_candidates = info.data.get("candidates") is not None
        if isinstance(section, LearnConfig) and has_candidates and section.target_share is not None:
            raise ValueError("target_share is for a pair of models; give target_quality or _spend")
        if isinstance(section, CanaryConfig):
            learns = info.data.get("learn") is not None
            section.check(has_candidates=has_candidates, learns=learns)
        if isinstance(section, CanaryConfig) and routing and routing.session_affinity.by == "none":
            raise ValueError("conversations can't be told apart: session_affinity.by is none")
        if section is not None and routing and not (routing.strong_model or has_candidates):
            raise ValueError("needs strong_model and weak_model in [routing]")
        if isinstance(section, ShadowConfig) and routing and routing.strong_model:
            models = info.data.get("models", {})
            for name in (routing.strong_model, routing.weak_model):
                model = models.get(name)
                if model is None or None in (model.input_usd_per_mtok, model.output_usd_per_mtok):
                    raise ValueError(f"daily_usd needs the prices of {name}, in [models]")
        return section

    @field_validator("policy", "rules", "price_list")
    @classmethod
    def _has_candidates(cls, value: Any, info: ValidationInfo) -> Any:
        given = info.data.get("candidates", ...)  # it may have an error of its own
        if value and given is None:
            raise ValueError("needs [[candidates]]")
        return value

    @field_validator("cascade")
    @classmethod
    def _asks_other_models(
        cls, cascade: CascadeConfig | None, info: ValidationInfo
    ) -> CascadeConfig | None:
        routing, endpoint = info.data.get("routing"), info.data.get("endpoint")
        if cascade is not None and routing is not None and endpoint is not None:
            if not routing.strong_model:
                raise ValueError("needs strong_model and weak_model in [routing]")
            models = info.data.get("models", {})
            pair = (routing.strong_model, routing.weak_model)
            cascade.check_models(*pair, models, other_models=endpoint.other_models)
        return cascade

    @field_validator("routers")
    @classmethod
    def _have_options(
        cls, routers: dict[str, dict[str, Any]], info: ValidationInfo
    ) -> dict[str, dict[str, Any]]:
        # Only of loaded routers: RouteLLM's files have sections of others, with keys of their own.
        routing = info.data.get("routing")
        loaded = routers.keys() & routing.router_names if routing is not None else ()
        unknown = [
            InitErrorDetails(type="extra_forbidden", loc=(name, key), input=None)
            for name in loaded
            for key in routers[name].keys() - find_spec(name).options()
        ]
        if unknown:
            raise ValidationError.from_exception_data("routers", unknown)
        return routers


@dataclass(frozen=True)
class Config:
    """The whole configuration, with the endpoints of each model."""

    routing: RoutingConfig
    server: ServerConfig = field(default_factory=ServerConfig)
    endpoint: Endpoint = field(default_factory=Endpoint)
    other_models: bool = True
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    resilience: ResilienceConfig = field(default_factory=ResilienceConfig)
    cascade: CascadeConfig | None = None
    journal: JournalConfig | None = None
    shadow: ShadowConfig | None = None
    explore: ExploreConfig | None = None
    learn: LearnConfig | None = None
    canary: CanaryConfig | None = None
    drift: DriftConfig | None = None
    candidates: tuple[Candidate, ...] = ()
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rules: tuple[RuleConfig, ...] = ()
    keys: tuple[KeyConfig, ...] = ()
    state: StateConfig | None = None
    budgets: BudgetsConfig | None = None
    router_config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def model_names(self) -> list[str]:
        """Every model that is named: the pair, the helpers, candidates, those with a section."""
        helpers = () if self.cascade is None else self.cascade.helpers
        pair = filter(None, (self.routing.strong_model, self.routing.weak_model))
        names = (candidate.name for candidate in self.candidates)
        return list(dict.fromkeys([*pair, *helpers, *names, *self.models]))


#: Keys of [routing] that are of use between a pair of models only.
_OF_A_PAIR = {"strong_model", "weak_model", "routers", "router", "threshold", "strong_share"}


def load_config(
    path: str | None,
    overrides: Mapping[str, Any] | None = None,
    endpoint: Endpoint | None = None,
    text: str | None = None,
) -> Config:
    """Read a configuration file, or none; ``overrides`` (command-line flags) replace its values.
    ``text`` is read in place of what the file says.

    A RouteLLM configuration, whose sections are routers, is read as ``[routers]``. Paths in
    ``[routers]`` are relative to the file. ``endpoint`` replaces the section ``[endpoint]``. Raises
    ConfigError with every problem that was found.
    """
    file = ConfigFile("command line", {}, {}) if path is None else read_config_file(path, text)
    # A router has the name of a section: [models] alone is the section.
    if file.data and set(file.data) <= set(ROUTER_NAMES) - ConfigSections.model_fields.keys():
        lines = {("routers", *key): line for key, line in file.lines.items()}
        file = ConfigFile(file.name, {"routers": file.data}, lines)
    data, flags = _overridden(file.data, overrides or {})
    routing = data["routing"]
    is_pairless = "candidates" in data and not (
        isinstance(routing, Mapping) and _OF_A_PAIR & routing.keys()
    )
    if is_pairless and isinstance(routing, Mapping):
        data["routing"] = {"strong_model": "", "weak_model": "", **routing}
    folder = Path(path or ".").parent
    try:
        sections = ConfigSections.model_validate(data, context=Reading(folder, is_pairless))
    except ValidationError as error:
        raise config_error(file, flags, ConfigSections, error) from error
    default = endpoint or sections.endpoint.endpoint(Endpoint(max_retries=0))
    candidates = read_section(
        sections.candidates, sections.price_list, sections.models, file, folder
    )
    models = {name: model.configured(name, default) for name, model in sections.models.items()}
    for candidate in candidates:
        name, prices = candidate.name, prices_for_bills(candidate)
        section = sections.models.get(name) or ModelSection()
        own = section.configured(name, endpoint_of(candidate, default))
        given = {key: getattr(own, key) for key in prices if getattr(own, key) is not None}
        models[name] = replace(own, **(prices | given))
    shared = (f.name for f in fields(Config) if f.name in ConfigSections.model_fields)
    as_they_are: dict[str, Any] = {name: getattr(sections, name) for name in shared}
    resolved = {"endpoint": default, "models": models, "candidates": candidates}
    return Config(
        **(as_they_are | resolved),
        other_models=sections.endpoint.other_models,
        router_config=_router_config(sections, folder, ("routing", "routers") in flags),
    )


def _overridden(
    data: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[Key, str]]:
    """``data`` with the values of flags, and the flag of each key that was replaced."""
    found: dict[str, Any] = {"routing": {}, **data}
    flags: dict[Key, str] = {}
    for name, value in overrides.items():
        section = "server" if name in ServerConfig.model_fields else "routing"
        table = found.setdefault(section, {})
        if isinstance(table, Mapping):
            found[section] = {**table, name: value}
            flags[section, name] = f"--{name.replace('_', '-')}"
    for name, other in (("threshold", "strong_share"), ("strong_share", "threshold")):
        if name in overrides and isinstance(found["routing"], Mapping):
            found["routing"] = {k: v for k, v in found["routing"].items() if k != other}
    routing = found["routing"]
    if "routers" in overrides and isinstance(routing, Mapping):
        names = [re.split("[,=]", router)[0] for router in overrides["routers"]]
        if routing.get("router") not in names:
            found["routing"] = {name: v for name, v in routing.items() if name != "router"}
    return found, flags


def _router_config(
    sections: ConfigSections, folder: Path, from_flags: bool
) -> dict[str, dict[str, Any]]:
    """The arguments of each router that is loaded; what stands with its name goes first. Paths in
    flags are relative to the working directory."""
    chosen = {choice.name: choice.config for choice in sections.routing.routers}
    found: dict[str, dict[str, Any]] = {}
    for name in sections.routing.router_names:
        beside = chosen.get(name, {})
        beside = beside if from_flags else _absolute(beside, folder)
        # Another folder is another router, with options of its own.
        section = {} if "checkpoint_path" in beside else sections.routers.get(name, {})
        if section or beside:
            found[name] = {**_absolute(section, folder), **beside}
    return found


def _absolute(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A router's ``config`` with absolute paths; what is not in ``folder`` and looks like the id of
    a model on a hub is left as it is."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):  # a member of a cascade
            value = _absolute(value, folder)
        elif isinstance(value, str) and (name == "battles" or name.endswith("_path")):
            path = folder / Path(value).expanduser()
            if path.exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value):
                value = str(path)
        found[name] = value
    return found
