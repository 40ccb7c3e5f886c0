"""The description of the HTTP API (OpenAPI 3.1.0), made of the table of endpoints and its structs.

The figures are those of `--json`, so their schemas are made of the same structs.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

import bitdustfs
from bitdustfs.net.control import Failure
from bitdustfs.web.endpoints import HttpRow
from bitdustfs.web.gate import ACTION

KIND = "application/json"
REFUSALS = {
    "401": "the cookie of the printed address is missing",
    "403": "another host, another origin or another user asks, or the page's word is missing",
}
FAILURES = {
    "404": "no such mount or supplier",
    "409": "it cannot be done as things are",
    "503": "the process that was asked did not answer, or could not do it",
}
BODY_FAILURES = {"400": "the body is not what is asked for", "413": "the body is too large"}


def description(endpoints: Iterable[HttpRow]) -> dict[str, Any]:
    """The whole document, ready to be encoded as JSON."""
    table = list(endpoints)
    types = {t: None for row in table for t in (row.answer, row.body) if t is not None}
    schemas, components = msgspec.json.schema_components(
        [*types, Failure], ref_template="#/components/schemas/{name}"
    )
    named = dict(zip([*types, Failure], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in table:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, named)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bitdust dashboard",
            "version": bitdustfs.__version__,
            "description": "For the page that bitdust dashboard opens, on loopback only.",
        },
        "security": [{"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "cookie": {"type": "apiKey", "in": "cookie", "name": "bitdust-PORT"},
                "action": {"type": "apiKey", "in": "header", "name": ACTION},
            },
        },
    }


def _operation(row: HttpRow, named: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": row.method.lower() + "".join(
            word.title() for word in re.findall(r"\w+", row.path.replace("{", "by-"))[1:]
        ),
        "summary": row.text,
        "parameters": [
            {"name": word, "in": "path", "required": True,
             "schema": {"type": "string", "pattern": "^[0-9a-f]{12}$"}}
            for word in re.findall(r"{(\w+)}", row.path)
        ],
        "responses": {
            str(row.status): {"description": row.text, "content": _content(named[row.answer])},
            **{
                code: {"description": why, "content": _content(named[Failure])}
                for code, why in _failures(row).items()
            },
        },
    }  # fmt: skip
    if row.body is not None:
        said["requestBody"] = {"required": True, "content": _content(named[row.body])}
        said["security"] = [{"cookie": [], "action": []}]
    return said


def _failures(row: HttpRow) -> dict[str, str]:
    found = {**REFUSALS}
    if "{" in row.path:
        found |= FAILURES
    if row.body is not None:
        found |= BODY_FAILURES
    return dict(sorted(found.items()))


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {KIND: {"schema": schema}}
