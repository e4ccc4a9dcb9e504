"""The description of the API in OpenAPI's terms, made of the operations and their models."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from stockhelper_app import __version__, schemas

if TYPE_CHECKING:
    from stockhelper_app.routes import Operation

_REF: Final = "#/components/schemas/{model}"
_TOKEN: Final = {"token": list[str]()}
#: Errors of a request as such, whatever it asks for: what `guard`, `protocol` and the reading of a query refuse.
_ANY_REQUEST: Final = (400, 408, 413, 414, 431)
#: Headers that an answer of this status has, if it is an error; and what they hold.
_OF_ERRORS: Final = {
    401: {"WWW-Authenticate": "string"},
    503: {"Retry-After": "integer"},
}


def document(operations: "Sequence[Operation]") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these operations."""
    outputs = {model for operation in operations for model in operation.answers.values() if model is not None}
    bodies = {operation.body for operation in operations if operation.body is not None}
    models = [
        *((model, "serialization") for model in {*outputs, schemas.Problem}),
        *((m, "validation") for m in bodies),
    ]
    refs, definitions = models_json_schema(
        sorted(models, key=lambda pair: pair[0].__name__),  # type: ignore[arg-type]
        ref_template=_REF,
        schema_generator=GenerateJsonSchema,
    )
    schema_of = {model: ref for (model, _), ref in refs.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "stockhelper", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "API_TOKEN"}},
        },
    }


def _operation(operation: "Operation", schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.endpoint.__name__,
        "summary": (operation.endpoint.__doc__ or "").strip(),
        "parameters": [parameter for where, model in operation.parameters for parameter in _parameters(where, model)],
        "responses": {str(status): _answer(operation, status, schema_of) for status in operation.answers},
    }
    errors = {*operation.errors, *_ANY_REQUEST, *(() if operation.open else (401, 403))}
    for status in sorted(errors):
        schema = {"application/problem+json": {"schema": schema_of[schemas.Problem]}}
        found["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": schema,
            **_headers(_OF_ERRORS.get(status, {})),
        }
    if operation.body is not None:
        found["requestBody"] = {"content": {"application/json": {"schema": schema_of[operation.body]}}}
    if operation.writes:
        found["security"] = [_TOKEN]
    elif not operation.open:
        # Without it too, where the service is set so.
        found["security"] = [{}, _TOKEN]
    return found


def _answer(operation: "Operation", status: int, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    model = operation.answers[status]
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase, **_headers(operation.headers.get(status, {}))}
    if model is not None:
        answer["content"] = {"application/json": {"schema": schema_of[model]}}
        if operation.csv:
            answer["content"]["text/csv"] = {"schema": {"type": "string"}}
    elif status == HTTPStatus.OK:
        answer["content"] = {"application/json": {"schema": {"type": "object"}}}
    if model is not None and operation.links:
        answer["links"] = {
            name: {"operationId": name, "parameters": {parameter: f"$response.body#{where}"}}
            for name, (parameter, where) in operation.links.items()
        }
    return answer


def _headers(types: Mapping[str, str]) -> dict[str, Any]:
    if not types:
        return {}
    return {"headers": {name: {"required": True, "schema": {"type": kind}} for name, kind in types.items()}}


def _parameters(where: str, model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    found = []
    for name, described in schema["properties"].items():
        about = {key: value for key, value in described.items() if key not in ("title", "description")}
        # Absent or a value, never null: that is what a query can say.
        if "anyOf" in about:
            (about,) = (kind for kind in about["anyOf"] if kind.get("type") != "null")
        parameter = {"name": name, "in": where, "required": name in required, "schema": about}
        if "description" in described:
            parameter["description"] = described["description"]
        found.append(parameter)
    return found
