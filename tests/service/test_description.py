"""Every operation of openapi.json, asked of the real process with data that fit it and data that do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from stockhelper_app import openapi
from stockhelper_app.routes import operations
from tests.service.live import Live, live
from tests.service.steps import BEARER, V1
from tests.support.alembic import Alembic
from tests.support.waiting import PATIENCE, request

pytest_plugins = ["schemathesis.pytest.plugin"]

#: The same cases each time. Syncs that they start read the sample that comes with the service, and ask nobody else.
CONFIG = schemathesis.Config.from_dict(
    {
        "seed": 20261120,
        "request-timeout": PATIENCE,
        "generation": {"deterministic": True, "database": "none", "max-examples": 20},
    }
)
#: How long data take to make tells of the machine, not of them.
MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
description = schemathesis.openapi.from_dict(openapi.document(operations), config=CONFIG)
OPEN = {operation.path for operation in operations if operation.open}


@pytest.fixture(scope="module")
def service(migrated: Alembic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(migrated, tmp_path_factory.mktemp("description")) as made:
        yield made


@pytest.fixture(scope="module")
def published(migrated: Alembic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One that is published beyond loopback."""
    with live(migrated, tmp_path_factory.mktemp("published"), APP_BIND="0.0.0.0") as made:
        yield made


def unfit(case: schemathesis.Case[Any]) -> list[Any]:
    """Return the checks that a case need not pass.

    Data that fit may be refused all the same, for what JSON Schema cannot say: a cursor must be one that was given out,
    and a day not after another.
    """
    given = dict(case.query or {})
    if isinstance(case.body, dict):
        given |= case.body
    beyond = "cursor" in given or str(given.get("from") or "") > str(given.get("to") or "9999-12-31")
    return [positive_data_acceptance] if beyond else []


def test_it_is_the_description_that_the_service_gives(service: Live) -> None:
    given = request("GET", f"{service.address}{V1}/openapi.json")
    assert given.json() == openapi.document(operations)


@description.parametrize()
@settings(MACHINE)
def test_with_the_token_it_answers_as_described(case: schemathesis.Case[Any], service: Live) -> None:
    case.call_and_validate(base_url=service.address, headers=BEARER, excluded_checks=unfit(case))


@description.parametrize()
@settings(MACHINE, max_examples=5)
def test_without_it_nothing_but_health_is_told_beyond_loopback(case: schemathesis.Case[Any], published: Live) -> None:
    # Whatever a case shows as a token is not it.
    answer = case.call_and_validate(base_url=published.address)
    assert (answer.status_code == 401) == (case.operation.path not in OPEN and answer.status_code != 405)


def test_what_an_answer_links_to_is_there(service: Live) -> None:
    class Walk(description.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: schemathesis.Case[Any]) -> dict[str, Any]:
            return {"base_url": service.address, "headers": BEARER}

        def validate_response(self, response: Any, case: schemathesis.Case[Any], *_: Any, **more: Any) -> None:
            checks = unfit(case)
            case.validate_response(response, excluded_checks=checks, transport_kwargs=more, recorder=self.recorder)

    Walk.run(settings=settings(Walk.TestCase.settings, max_examples=20, stateful_step_count=6, derandomize=True))
