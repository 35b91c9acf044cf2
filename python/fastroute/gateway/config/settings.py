"""What a gateway is told: the sections of its config file, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastroute.errors import InvalidInputError
from fastroute.gateway.config.file import ConfigFile, read_config_file
from fastroute.gateway.config.reader import Problems, Section
from fastroute.http.request import Endpoint
from fastroute.routers.registry import ROUTER_NAMES

STICKY_BY = ("messages", "user", "header", "none")
FALLBACKS = ("none", "strong_to_weak", "weak_to_strong", "both")
REDUNDANCY = ("none", "hedge", "delayed", "relaunch")


@dataclass(frozen=True)
class ServerConfig:
    """Section ``[server]``: where to listen, and how much to take on."""

    host: str = "127.0.0.1"
    port: int = 6060
    workers: int = 1
    max_body_bytes: int = 32 * 2**20
    max_concurrency: int = 1024
    retry_after_s: float = 1.0
    body_timeout_s: float = 30.0
    shutdown_timeout_s: float = 30.0
    page: bool = True
    log_prompts: bool = False
    log_level: str = "info"
    opentelemetry: bool = False
    max_provider_header_bytes: int = 64 * 1024


@dataclass(frozen=True)
class SessionAffinityConfig:
    """Section ``[routing.session_affinity]``: when a conversation stays with its model."""

    by: str = "messages"
    header: str = "x-session-id"
    margin: float = 0.1
    short_chars: int = 40
    ttl_s: float = 3600.0
    max_sessions: int = 100_000


@dataclass(frozen=True)
class RoutingConfig:
    """Section ``[routing]``: who decides, between whom, on what."""

    strong_model: str
    weak_model: str
    routers: tuple[str, ...] = ("mf",)
    default_router: str = "mf"
    threshold: float | None = None
    strong_share: float | None = None
    window: int = 1
    session_affinity: SessionAffinityConfig = field(default_factory=SessionAffinityConfig)
    router_config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """One endpoint of a model, and the model's name there."""

    endpoint: Endpoint
    model: str
    weight: float = 1.0


@dataclass(frozen=True)
class ModelConfig:
    """Section ``[models.<name>]``: where a model is, and what it costs."""

    name: str
    targets: tuple[Target, ...]
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None


@dataclass(frozen=True)
class ResilienceConfig:
    """Section ``[resilience]``: what is done when a provider fails or is late."""

    retries: int = 2
    retry_budget: float = 0.2
    total_timeout_s: float = 900.0
    fallback: str = "none"
    breaker_failures: int = 5
    breaker_open_s: float = 10.0
    redundancy: str = "none"
    redundancy_quantile: float = 0.95
    redundancy_delay_s: float | None = None
    redundancy_budget: float = 0.05


@dataclass(frozen=True)
class KeyConfig:
    """A ``[[keys]]`` table: who may call, by the SHA-256 of his key."""

    name: str
    sha256: bytes = field(repr=False)


@dataclass(frozen=True)
class Config:
    """The whole config."""

    routing: RoutingConfig
    server: ServerConfig = field(default_factory=ServerConfig)
    endpoint: Endpoint = field(default_factory=Endpoint)
    other_models: bool = True
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    resilience: ResilienceConfig = field(default_factory=ResilienceConfig)
    keys: tuple[KeyConfig, ...] = ()


def load_config(
    path: str | None,
    overrides: Mapping[str, Any] | None = None,
    endpoint: Endpoint | None = None,
) -> Config:
    """Read a config file, or none; ``overrides`` (command-line flags) go before what it says.

    A RouteLLM config, whose sections are routers, is read as ``[routers]``. ``endpoint`` replaces
    the section ``[endpoint]``. Raises ConfigError with every problem that was found.
    """
    file = ConfigFile("(no file)", {}, {}) if path is None else read_config_file(path)
    if file.data and set(file.data) <= set(ROUTER_NAMES):
        lines = {("routers", *key): line for key, line in file.lines.items()}
        file = ConfigFile(file.name, {"routers": file.data}, lines)
    problems = Problems(file)
    config = _read(Section(problems, (), file.data), dict(overrides or {}), endpoint)
    problems.raise_any()
    assert config is not None, "every reason for this is a problem"
    return config


def _read(top: Section, overrides: dict[str, Any], endpoint: Endpoint | None) -> Config | None:
    server = _read_server(top.section("server"), overrides)
    resilience = _read_resilience(top.section("resilience"))
    keys = tuple(filter(None, (_read_key(table) for table in top.tables("keys"))))
    default, others = _read_default_endpoint(top.section("endpoint"))
    default = endpoint or default
    models_section = top.section("models")
    models = {
        name: model
        for name in models_section.names()
        if (model := _read_model(name, models_section.section(name), default)) is not None
    }
    routing = _read_routing(top.section("routing"), top.section("routers"), overrides)
    top.finish()
    if routing is None:
        return None
    return Config(routing, server, default, others, models, resilience, keys)


def _read_server(section: Section, overrides: Mapping[str, Any]) -> ServerConfig:
    d = ServerConfig()
    found = ServerConfig(
        host=section.text("host", d.host),
        port=section.whole("port", d.port, 0, 65535),
        workers=section.whole("workers", d.workers, 1, 256),
        max_body_bytes=section.whole("max_body_bytes", d.max_body_bytes, 1),
        max_concurrency=section.whole("max_concurrency", d.max_concurrency, 1),
        max_provider_header_bytes=section.whole(
            "max_provider_header_bytes", d.max_provider_header_bytes, 1024
        ),
        retry_after_s=section.number("retry_after_s", d.retry_after_s),
        body_timeout_s=section.number("body_timeout_s", d.body_timeout_s, above=True),
        shutdown_timeout_s=section.number("shutdown_timeout_s", d.shutdown_timeout_s),
        page=section.flag("page", d.page),
        log_prompts=section.flag("log_prompts", d.log_prompts),
        opentelemetry=section.flag("opentelemetry", d.opentelemetry),
        log_level=section.text("log_level", d.log_level, ("debug", "info", "warning", "error")),
    )
    section.finish()
    given = {k: v for k, v in overrides.items() if k in ServerConfig.__dataclass_fields__}
    for flag, least, most in (("port", 0, 65535), ("workers", 1, 256)):
        if flag in given and not least <= given[flag] <= most:
            raise InvalidInputError(f"--{flag} must be from {least} to {most}, got {given[flag]}")
    if given.get("host") == "":  # which would be every address
        raise InvalidInputError("--host is empty; give an address, such as 127.0.0.1")
    return ServerConfig(**{**found.__dict__, **given})


def _read_resilience(section: Section) -> ResilienceConfig:
    d = ResilienceConfig()
    found = ResilienceConfig(
        retries=section.whole("retries", d.retries, 0, 10),
        retry_budget=section.number("retry_budget", d.retry_budget, 0, 1),
        total_timeout_s=section.number("total_timeout_s", d.total_timeout_s, above=True),
        fallback=section.text("fallback", d.fallback, FALLBACKS),
        breaker_failures=section.whole("breaker_failures", d.breaker_failures),
        breaker_open_s=section.number("breaker_open_s", d.breaker_open_s, above=True),
        redundancy=section.text("redundancy", d.redundancy, REDUNDANCY),
        redundancy_quantile=section.number(
            "redundancy_quantile", d.redundancy_quantile, 0.5, 0.999
        ),
        redundancy_delay_s=section.number("redundancy_delay_s", d.redundancy_delay_s),
        redundancy_budget=section.number("redundancy_budget", d.redundancy_budget, 0, 1),
    )
    if found.redundancy in ("delayed", "relaunch") and found.redundancy_delay_s is None:
        section.bad("redundancy", f"{found.redundancy!r} needs redundancy_delay_s")
    section.finish()
    return found


def _read_key(section: Section) -> KeyConfig | None:
    name = section.text("name", f"key {section.path[-1]}")
    digest = section.text("sha256", None)
    section.finish()
    if digest is None or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        section.bad(
            "sha256", "must be 64 hexadecimal digits; fastroute serve --hash-key makes them"
        )
        return None
    return KeyConfig(name, bytes.fromhex(digest))


def _endpoint_values(section: Section, default: Endpoint) -> dict[str, Any]:
    return {
        "base_url": section.text("base_url", None),
        "api_key": section.secret("api_key"),
        "timeout_s": section.number("timeout_s", default.timeout_s, above=True),
        "connect_timeout_s": section.number(
            "connect_timeout_s", default.connect_timeout_s, above=True
        ),
        "first_byte_timeout_s": section.number(
            "first_byte_timeout_s", default.first_byte_timeout_s, above=True
        ),
        "retry_cut_answers": section.flag("retry_cut_answers", default.retry_cut_answers),
        "max_retries": 0,  # the gateway has a budget for that
    }


def _read_default_endpoint(section: Section) -> tuple[Endpoint, bool]:
    others = section.flag("other_models", True)
    values = _endpoint_values(section, Endpoint())
    section.finish()
    return section.build(Endpoint, **values) or Endpoint(), others


def _read_model(name: str, section: Section, default: Endpoint) -> ModelConfig | None:
    prices = [section.number(f"{way}_usd_per_mtok", None) for way in ("input", "output")]
    tables = section.tables("endpoints")
    single = {"base_url", "api_key_env", "api_key", "model"} & set(section.names())
    if tables and single:
        section.bad(min(single), "belongs in each of endpoints, where there are several")
    targets = []
    for table in tables or [section]:
        model = table.text("model", name)
        weight = table.number("weight", 1.0, above=True)
        values = _endpoint_values(table, default)
        if values["base_url"] is None and values["api_key"] is None:
            values |= {"base_url": default.base_url, "api_key": default.api_key}
        endpoint = table.build(Endpoint, **values)
        if table is not section:
            table.finish()
        if endpoint is not None:
            targets.append(Target(endpoint, model, weight))
    section.finish()
    return ModelConfig(name, tuple(targets), *prices) if targets else None


def _read_routing(
    section: Section, routers: Section, overrides: Mapping[str, Any]
) -> RoutingConfig | None:
    strong = overrides.get("strong_model") or section.text("strong_model", None)
    weak = overrides.get("weak_model") or section.text("weak_model", None)
    for name, model in (("strong_model", strong), ("weak_model", weak)):
        section.take(name)
        if model is None:
            section.bad(name, f"is missing; name the model (or give --{name.replace('_', '-')})")
    given = section.texts("routers", ()) or tuple(overrides.get("routers") or ())
    names = tuple(overrides.get("routers") or given)
    first = section.text("router", names[0] if names else "mf")
    if overrides.get("routers") and first not in names:
        first = names[0]
    names = names or (first,)
    for name in names:
        if name not in ROUTER_NAMES:
            section.bad("routers", f"there is no router {name!r}; known: {', '.join(ROUTER_NAMES)}")
    if first not in names:
        section.bad("router", f"{first!r} is not one of routers: {', '.join(names)}")
    threshold = section.number("threshold", None, 0, 1)
    share = section.number("strong_share", None, 0, 1)
    if threshold is not None and share is not None:
        section.bad("strong_share", "give threshold or strong_share, not both")
    window = section.whole("window", 1, 1, 100)
    sticky = _read_session_affinity(section.section("session_affinity"))
    section.finish()
    configs = {}
    for name in routers.names():
        if name in ROUTER_NAMES:
            value = routers.take(name)
            if isinstance(value, Mapping):
                if name in names:
                    configs[name] = dict(value)
            else:
                routers.bad(name, "must be a table of the router's arguments")
        else:
            routers.bad(name, f"there is no such router; known: {', '.join(ROUTER_NAMES)}")
    if strong is None or weak is None:
        return None
    return RoutingConfig(strong, weak, names, first, threshold, share, window, sticky, configs)


def _read_session_affinity(section: Section) -> SessionAffinityConfig:
    d = SessionAffinityConfig()
    found = SessionAffinityConfig(
        by=section.text("by", d.by, STICKY_BY),
        header=section.text("header", d.header).lower(),
        margin=section.number("margin", d.margin, 0, 1),
        short_chars=section.whole("short_chars", d.short_chars),
        ttl_s=section.number("ttl_s", d.ttl_s, above=True),
        max_sessions=section.whole("max_sessions", d.max_sessions, 1),
    )
    section.finish()
    return found
