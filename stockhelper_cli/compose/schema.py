"""The Compose specification's JSON schema, and what it finds told in one line.

`compose-spec.json` is the specification's own, vendored unchanged (see NOTICE). jsonschema is the judge of what does
not plainly fit; importing it takes longer than all other loading, so `fits` looks first, by the few keywords that
the schema uses. Of the errors that a document has, the one that goes deepest is told: an alternative that fits up to
one key explains more than one that fits nowhere.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockhelper_cli.compose.document import KeyPath, Map, Position, locate
from stockhelper_cli.compose.forms import dotted
from stockhelper_cli.errors import ConfigError

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def validate(tree: Map, file: str, base: Map) -> None:
    """Check a document of `file` that completes what the documents before it have given, `base`.

    Raises `ConfigError` (config.compose) that names file, line and key.
    """
    document = _completed(tree, base)
    if fits(document, specification()):
        return
    errors = list(_validator().iter_errors(document))
    if not errors:
        return
    leaf = max((_deepest(error) for error in errors), key=_depth)
    path = [*leaf.absolute_path]
    if leaf.validator == "additionalProperties":
        raise _unknown_key(tree, file, path, leaf)
    position = locate(tree, path) or Position(file, 1)
    raise ConfigError("config.compose", f"{position}: {dotted(tuple(path)) or 'the file'}: {_said(leaf)}")


@cache
def _validator() -> Validator:
    from jsonschema import Draft7Validator, validators

    # An entry that stands twice is one entry to Compose for most keys; the forms know for which.
    lenient: type[Validator] = validators.extend(Draft7Validator, {"uniqueItems": lambda *_: None})  # type: ignore[no-untyped-call]
    return lenient(specification())


@cache
def specification() -> Mapping[str, Any]:
    """Return the specification's schema."""
    schema: Mapping[str, Any] = json.loads(Path(__file__).with_name("compose-spec.json").read_text(encoding="utf-8"))
    return schema


#: What a value is to JSON schema; a boolean is no number there.
_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
#: Keywords that `fits` knows, and those that say nothing about a value (jsonschema does not look at formats either).
_KEYWORDS = {
    *("type", "properties", "patternProperties", "additionalProperties", "required", "items", "oneOf", "enum"),
    *("pattern", "minimum", "maximum", "$ref", "uniqueItems"),
    *("format", "description", "title", "deprecated", "default", "definitions", "$schema", "$id"),
}


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a value plainly fits a part of the specification's schema; False is for jsonschema to judge."""
    if "$ref" in schema:
        return fits(value, specification()["definitions"][schema["$ref"].rpartition("/")[2]])
    if not schema.keys() <= _KEYWORDS:
        return False
    kinds = _listed(schema.get("type", ()))
    if kinds and not any(_is(value, kind) for kind in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "oneOf" in schema and sum(fits(value, alternative) for alternative in schema["oneOf"]) != 1:
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, (int, float)):
        return not (value < schema.get("minimum", value) or value > schema.get("maximum", value))
    if isinstance(value, list):
        return all(fits(entry, schema.get("items", {})) for entry in value)
    return _mapping_fits(value, schema) if isinstance(value, dict) else True


def _mapping_fits(value: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    if not all(key in value for key in schema.get("required", ())):
        return False
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    rest = schema.get("additionalProperties", True)
    for key, entry in value.items():
        parts = [part for pattern, part in patterns.items() if re.search(pattern, key)]
        parts += [properties[key]] if key in properties else []
        if not parts and rest is not True:
            parts = [rest] if rest else [{"enum": ()}]
        if not all(fits(entry, part) for part in parts):
            return False
    return True


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS[kind]) or (kind == "integer" and isinstance(value, float) and value.is_integer())


def _completed(value: Any, base: Any, path: KeyPath = ()) -> Any:
    """Return a document with what it leaves to the ones before: where they have a value, null leaves it as it is."""
    if isinstance(value, Map) and isinstance(base, Map):
        given = {
            key: _completed(entry, base.get(key), (*path, key))
            for key, entry in value.items()
            if entry is not None or base.get(key) is None
        }
        known = {"condition": base["condition"]} if path[2:3] == ("depends_on",) and "condition" in base else {}
        return {**known, **given}
    return value


def _deepest(error: ValidationError) -> ValidationError:
    """Return the error that explains `error`: of a choice's alternatives, that of the one that fits best."""
    while error.context:
        best = max((_deepest(inner) for inner in error.context), key=_depth)
        if best.validator == "type" and len(best.absolute_path) == len(error.absolute_path):
            return error  # no alternative is of this type: all of them are told
        error = best
    return error


def _depth(error: ValidationError) -> tuple[int, bool]:
    return len(error.absolute_path), error.validator != "type"


def _unknown_key(tree: Map, file: str, path: list[str | int], error: Any) -> ConfigError:
    known: set[str] = set(error.schema.get("properties", ()))
    unknown = [key for key in error.instance if key not in known and not key.startswith("x-")]
    key = unknown[0] if unknown else next(iter(error.instance), "")
    position = locate(tree, [*path, key]) or Position(file, 1)
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    what = "is not a key of the Compose specification" if known else "is not a name: letters, digits, . _ and - only"
    return ConfigError("config.compose", f"{position}: {dotted((*path, key))}: {what}{hint}")


def _said(error: Any) -> str:
    match error.validator:
        case "oneOf":
            kinds = [kind for inner in error.context for kind in _listed(inner.validator_value)]
            return f"must be {_alternatives(_TYPES[kind] for kind in dict.fromkeys(kinds) if kind in _TYPES)}"
        case "type" if error.validator_value == "string" and isinstance(error.instance, (bool, int, float)):
            return "must be text; put it in quotes"
        case "type":
            return f"must be {_alternatives(_TYPES[kind] for kind in _listed(error.validator_value))}"
        case "enum":
            return f"must be one of {', '.join(map(str, error.validator_value))}"
        case "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            return f"has no {missing[0]}"
        case _:
            return str(error.message)


def _alternatives(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
