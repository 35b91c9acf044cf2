"""The gateway's OpenAPI document. Bodies of the paths that are passed on are their provider's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastroute import __version__

_ERROR = {
    "description": "An error in OpenAI's form, of the gateway or as the provider sent it.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
#: Security schemes, and schemas of bodies.
_COMPONENTS = json.loads(Path(__file__).with_name("components.json").read_text("utf-8"))
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def openapi_document(
    proxied: tuple[str, ...], stored: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """OpenAPI 3.1 for the paths of the gateway."""
    paths: dict[str, Any] = {
        f"/v1{path}": {
            "post": _post(
                f"Passed on to the model's provider as {path}.",
                {"description": "As the provider sent it."},
            )
        }
        for path in proxied
    }
    paths |= {
        f"/v1{path}": {
            method.lower(): {
                "summary": "Passed on to the provider that keeps the response.",
                "parameters": [_ID],
                "responses": {
                    "200": {"description": "As the provider sent it."},
                    **dict.fromkeys(("401", "404", "405", "429"), _ERROR),
                    "default": _ERROR,
                },
            }
            for method in methods
        }
        for path, methods in stored.items()
    }
    decision = {
        "description": "Where the request would go.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Decision"}}},
    }
    paths["/v1/route"] = {"post": _post("Decide, and send nothing.", decision)}
    paths["/v1/feedback"] = {"post": _feedback()}
    for path, summary in (
        ("/v1/models", "The models that can be named."),
        ("/v1/models/{id}", "One of them."),
        ("/metrics", "Prometheus metrics."),
        ("/health", "Whether the process is up."),
        ("/ready", "Whether new requests are taken."),
    ):
        answers: dict[str, Any] = {"200": {"description": summary}, "401": _ERROR}
        if path.endswith("{id}"):
            answers["404"] = _ERROR
        if path == "/ready":
            answers["503"] = {"description": "It is shutting down."}
        parameters = [_ID] if path.endswith("{id}") else []
        get = {"summary": summary, "parameters": parameters, "responses": answers}
        paths[path] = {"get": get}
    return {
        "openapi": "3.1.0",
        "info": {"title": "fastroute", "version": __version__},
        "paths": paths,
        "security": [{}, {"key": []}],
        "components": _COMPONENTS,
    }


def _feedback() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Feedback"}
    key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}
    refusals = ("400", "401", "404", "409", "413", "422", "503")
    return {
        "summary": "Grade the answer to a request; kept in the journal.",
        "parameters": [key],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": "The grade is kept."},
            "202": {"description": "It is kept; its request is not in the journal yet."},
            **dict.fromkeys(refusals, _ERROR),
            "default": _ERROR,
        },
    }


def _post(summary: str, success: dict[str, Any]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Request"}
    refusals = ("400", "401", "404", "405", "408", "413", "429")
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": success, **dict.fromkeys(refusals, _ERROR), "default": _ERROR},
    }
