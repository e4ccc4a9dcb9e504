"""What psql says is told apart: no answer yet, a refused password, a missing database, a refused statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from stockhelper_cli.database.psql import Credentials, NotAnswering, QueryFailed, query
from stockhelper_cli.engine.protocol import ExecResult
from stockhelper_cli.errors import ExitCode, StockhelperError
from tests.support.fake_engine import FakeEngine

OWNER = Credentials("stockhelper", "se cret'\"$", "stock")


class Recording(FakeEngine):
    """Gives one answer and remembers what was asked."""

    def __init__(self, result: ExecResult) -> None:
        super().__init__({"postgres": {}})
        self.result = result
        self.asked: list[tuple[list[str], Mapping[str, str]]] = []
        self.start(self.create_container("db", {"Image": "postgres"}))

    def exec(
        self, container: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, user: str = ""
    ) -> ExecResult:
        self.asked.append((list(command), dict(environment or {})))
        return self.result


def ask(exit_code: int, stderr: str = "", stdout: str = "") -> list[list[str]]:
    return query(Recording(ExecResult(exit_code, stdout.encode(), stderr.encode())), "db", OWNER, "SELECT 1")


def test_rows_come_back_as_text_empty_fields_and_blanks_kept() -> None:
    assert ask(0, stdout="a\x1f\x1fc d\n1\x1f2\x1f3\n") == [["a", "", "c d"], ["1", "2", "3"]]
    assert ask(0) == []


def test_query_uses_tcp_and_hides_the_password() -> None:
    """A query connects over TCP with the password, which appears in no argument."""
    engine = Recording(ExecResult(0, b"1\n", b""))
    query(engine, "db", OWNER, "SELECT 'x y'")
    ((command, environment),) = engine.asked
    assert "host=$(hostname)" in command[2], "127.0.0.1 is trusted without a password"
    assert command[2].count(' -h "$host"') == command[2].count(" -h ") == 2
    assert command[-1] == "SELECT 'x y'"
    assert OWNER.password not in " ".join(command)
    assert environment["PGPASSWORD"] == OWNER.password
    assert (environment["PGUSER"], environment["PGDATABASE"]) == ("stockhelper", "stock")
    assert int(environment["PGCONNECT_TIMEOUT"]) <= 5
    assert environment["LC_ALL"] == "C", "messages are recognised in English"


def test_query_with_patience_retries_inside_the_container() -> None:
    """With `patience` the query retries inside the container, and without it there is one attempt."""
    engine = Recording(ExecResult(0, b"1\n", b""))
    query(engine, "db", OWNER, "SELECT 1", patience=0.4)
    query(engine, "db", OWNER, "SELECT 1")
    assert [command[4] for command, _ in engine.asked] == ["10", "0"]


def test_query_with_a_limit_sets_server_timeouts() -> None:
    """A query with a limit is ended by the server, and one without a limit is not."""
    engine = Recording(ExecResult(0, b"1\n", b""))
    query(engine, "db", OWNER, "SELECT 1", limit_seconds=2)
    query(engine, "db", OWNER, "SELECT 1")
    limited, unlimited = (environment for _, environment in engine.asked)
    assert limited["PGOPTIONS"] == "-c statement_timeout=2s -c lock_timeout=2s"
    assert "PGOPTIONS" not in unlimited


def test_a_refused_password_is_drift_and_no_advice_loses_data() -> None:
    line = 'psql: error: connection to server at "x", port 5432 failed: FATAL:  password authentication failed for user'
    with pytest.raises(StockhelperError) as raised:
        ask(2, f'{line} "stockhelper"')
    error = raised.value
    assert (error.code, error.exit_code) == ("db.password_drift", ExitCode.CONFIGURATION)
    assert error.message == "the database refuses the password of stockhelper"
    assert error.next
    assert not any("volume" in command or "-v" in command.split() for command in error.next)
    assert OWNER.password not in error.message + error.cause


def test_a_missing_database_is_a_half_made_volume() -> None:
    with pytest.raises(StockhelperError) as raised:
        ask(2, 'psql: error: connection to server at "x", port 5432 failed: FATAL:  database "stock" does not exist')
    assert (raised.value.code, raised.value.exit_code) == ("db.half_initialised", ExitCode.CONFIGURATION)


def test_another_missing_database_is_not_ours() -> None:
    with pytest.raises(NotAnswering):
        ask(2, 'psql: error: FATAL:  database "other" does not exist')


@pytest.mark.parametrize(
    "line",
    [
        'psql: error: connection to server at "x", port 5432 failed: Connection refused',
        'psql: error: connection to server at "x", port 5432 failed: FATAL:  the database system is starting up',
        "psql: error: timeout expired",
    ],
)
def test_a_server_that_takes_no_connections_does_not_answer(line: str) -> None:
    with pytest.raises(NotAnswering) as raised:
        ask(2, f"something before\n{line}\n")
    assert str(raised.value) == line


def test_without_a_word_the_exit_code_is_what_is_said() -> None:
    with pytest.raises(NotAnswering, match="psql exited with 127"):
        ask(127)


def test_a_refused_statement_carries_its_sqlstate() -> None:
    with pytest.raises(QueryFailed) as raised:
        ask(1, "ERROR:  42P01\n")
    assert raised.value.sqlstate == "42P01"


@pytest.mark.parametrize("line", ["psql: out of memory", "ERROR", "x: toolong", "error: other"])
def test_what_is_no_sqlstate_is_not_taken_for_one(line: str) -> None:
    with pytest.raises(QueryFailed) as raised:
        ask(1, line)
    assert raised.value.sqlstate == ""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("postgres", "", "postgres")),
        ({"POSTGRES_USER": "u"}, ("u", "", "u")),
        ({"POSTGRES_USER": "u", "POSTGRES_DB": "d", "POSTGRES_PASSWORD": "p"}, ("u", "p", "d")),
        ({"POSTGRES_USER": "", "POSTGRES_DB": ""}, ("postgres", "", "postgres")),
        ({"POSTGRES_USER": None, "POSTGRES_PASSWORD": None}, ("postgres", "", "postgres")),
    ],
)
def test_credentials_default_as_the_official_image_does(
    environment: dict[str, str | None], expected: tuple[str, str, str]
) -> None:
    assert Credentials.of(environment) == Credentials(*expected)
