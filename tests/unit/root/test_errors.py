"""Errors say what failed, why and what to type; their code alone decides the exit code."""

from __future__ import annotations

import pytest

from stockhelper_cli.errors import (
    ERROR_CODES,
    ConfigError,
    Conflict,
    EngineError,
    ExitCode,
    NotFound,
    StockhelperError,
)


@pytest.mark.parametrize("code", ERROR_CODES)
def test_the_code_decides_the_exit_code(code: str) -> None:
    assert StockhelperError(code, "it failed").exit_code is ERROR_CODES[code]


def test_a_code_outside_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError, match=r"made\.up"):
        StockhelperError("made.up", "it failed")


def test_error_prints_its_message_and_keeps_its_parts() -> None:
    """An error prints as its message and keeps its parts in order."""
    error = EngineError("engine.lost", "it broke", cause="no route", next=["one", "two"], details=["a", "b"])
    assert str(error) == "it broke"
    assert (error.cause, error.next, error.details) == ("no route", ("one", "two"), ("a", "b"))


def test_error_classes_share_a_base_and_engine_has_its_own() -> None:
    """One base class catches all errors, and errors of the engine have a base class of their own."""
    assert issubclass(ConfigError, StockhelperError)
    assert issubclass(NotFound, EngineError)
    assert issubclass(Conflict, EngineError)
    assert issubclass(EngineError, StockhelperError)
    assert not issubclass(ConfigError, EngineError)


def test_the_exit_codes_are_those_of_the_contract() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "CONFIGURATION": 3,
        "ENVIRONMENT": 4,
        "UNHEALTHY": 5,
        "MIGRATION": 6,
        "BACKUP": 7,
        "LOCKED": 8,
        "CONFIRMATION": 9,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


@pytest.mark.parametrize(
    ("family", "exit_code"),
    [
        ("config.", ExitCode.CONFIGURATION),
        ("port.", ExitCode.ENVIRONMENT),
        ("service.", ExitCode.UNHEALTHY),
        ("migration.", ExitCode.MIGRATION),
    ],
)
def test_a_family_of_codes_has_one_exit_code(family: str, exit_code: ExitCode) -> None:
    codes = {code: exit for code, exit in ERROR_CODES.items() if code.startswith(family)}
    assert codes
    assert set(codes.values()) == {exit_code}


def test_failure_never_exits_with_zero() -> None:
    assert ExitCode.DONE not in ERROR_CODES.values()
