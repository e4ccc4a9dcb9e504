"""Settings: a wrong value is told in one line that names file, line and key, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.errors import ConfigError, ExitCode
from stockhelper_cli.settings import Settings, bad_values, load_settings

GOOD = {"POSTGRES_PASSWORD": "owner-secret", "APP_DB_PASSWORD": "app-secret"}


def settings_of(folder: Path, lines: str, environ: Mapping[str, str] | None = None) -> Settings:
    """Read a .env as a command does: the shell beats the file."""
    path = folder / ".env"
    path.write_text(lines)
    dotenv = load_dotenv(path, environ or {})
    return load_settings({**dotenv, **(environ or {})}, dotenv)


def test_what_is_not_set_has_the_default_of_the_compose_file() -> None:
    settings = load_settings(GOOD, None)
    assert (str(settings.APP_BIND), settings.APP_PORT, settings.DB_PORT) == ("127.0.0.1", 8000, 5432)
    assert (settings.POSTGRES_USER, settings.POSTGRES_DB, settings.APP_DB_USER) == (
        "stockhelper",
        "stockhelper",
        "stockhelper_app",
    )


def test_empty_counts_as_unset_where_there_is_a_default(tmp_path: Path) -> None:
    text = "APP_PORT=\nAPP_BIND=\nPOSTGRES_PASSWORD=a\nAPP_DB_PASSWORD=b\n"
    assert settings_of(tmp_path, text).APP_PORT == 8000


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"])
def test_bind_address_accepts_ipv4_and_ipv6_as_in_compose(address: str) -> None:
    """Any IPv4 or IPv6 address can be bound, written as in a Compose file."""
    assert str(load_settings({**GOOD, "APP_BIND": address}, None).APP_BIND) == address.strip("[]")


@pytest.mark.parametrize("password", ["@:/?#%'\"\\", "two words", "$x", "пароль", "0"])
def test_any_password_that_is_not_empty_is_accepted(password: str) -> None:
    read = load_settings({**GOOD, "POSTGRES_PASSWORD": password}, None).POSTGRES_PASSWORD
    assert read == password


@pytest.mark.parametrize("port", ["1", "65535", "8000"])
def test_every_port_number_is_accepted(port: str) -> None:
    read = load_settings({**GOOD, "APP_PORT": port}, None).APP_PORT
    assert read == int(port)


@pytest.mark.parametrize("bind", ["127.0.0.1:9464", "0.0.0.0:1", "[::1]:65535"])
def test_metrics_are_bound_to_an_address_and_a_port(bind: str) -> None:
    assert bind == load_settings({**GOOD, "METRICS_BIND": bind}, None).METRICS_BIND


RANGE = "is not a port number from 1 to 65535"
MIRROR = "is not HOST[:PORT][/PREFIX], as a registry stands before an image's name"
WHOLE = "is not a whole number"
BIND = "is not an address and a port, such as 127.0.0.1:9464 or [::1]:9464"
ABSOLUTE = "is not an absolute path; Compose would take it relative to compose/, or for a volume"


@pytest.mark.parametrize(
    ("line", "complaint", "cause"),
    [
        ("APP_PORT=0", f"APP_PORT {RANGE}", "it is '0'"),
        ("REGISTRY_MIRROR=https://hub.example", f"REGISTRY_MIRROR {MIRROR}", "it is 'https://hub.example'"),
        ("REGISTRY_MIRROR=hub", f"REGISTRY_MIRROR {MIRROR}", "it is 'hub'"),
        ("APP_PORT=-1", f"APP_PORT {RANGE}", "it is '-1'"),
        ("APP_PORT=65536", f"APP_PORT {RANGE}", "it is '65536'"),
        ("APP_PORT=70000", f"APP_PORT {RANGE}", "it is '70000'"),
        ("DB_PORT=70000", f"DB_PORT {RANGE}", "it is '70000'"),
        ("APP_PORT=80a", f"APP_PORT {WHOLE}", "it is '80a'"),
        ("APP_PORT=8000.5", f"APP_PORT {WHOLE}", "it is '8000.5'"),
        ("APP_PORT=8000-8010", f"APP_PORT {WHOLE}", "it is '8000-8010'"),
        ("APP_BIND=localhost", "APP_BIND is not an IPv4 or IPv6 address", "it is 'localhost'"),
        ("APP_BIND=127.0.0.256", "APP_BIND is not an IPv4 or IPv6 address", "it is '127.0.0.256'"),
        ("APP_BIND=[::x]", "APP_BIND is not an IPv4 or IPv6 address", "it is '[::x]'"),
        ("APP_BIND=::1", "APP_BIND is not an IPv4 address; one of IPv6 stands in brackets, as in [::1]", "it is '::1'"),
        ("WEB_CONCURRENCY=65", "WEB_CONCURRENCY is not from 1 to 64", "it is '65'"),
        ("DB_POOL_SIZE=0", "DB_POOL_SIZE is not from 1 to 100", "it is '0'"),
        ("LOG_LEVEL=loud", "LOG_LEVEL is none of DEBUG, INFO, WARNING, ERROR, CRITICAL", "it is 'loud'"),
        (
            "APP_DB_USER=stockhelper",
            "APP_DB_USER must not be POSTGRES_USER: the application's role may not be the owner",
            "it is 'stockhelper'",
        ),
        ("POSTGRES_PASSWORD=", "POSTGRES_PASSWORD is empty", "`stockhelper init` writes a .env with a random one"),
        ("TUSHARE_CALLS_PER_MINUTE=0", "TUSHARE_CALLS_PER_MINUTE is not from 1 to 10000", "it is '0'"),
        ("METRICS_BIND=9464", f"METRICS_BIND {BIND}", "it is '9464'"),
        ("METRICS_BIND=0.0.0.0:0", f"METRICS_BIND {BIND}", "it is '0.0.0.0:0'"),
        ("METRICS_BIND=::1:9464", f"METRICS_BIND {BIND}", "it is '::1:9464'"),
        ("PROMETHEUS_BIND=9090", f"PROMETHEUS_BIND {BIND}", "it is '9090'"),
        (
            "PROMETHEUS_RETENTION=15 days",
            "PROMETHEUS_RETENTION is not a time span as Prometheus has it, such as 15d or 1d12h",
            "it is '15 days'",
        ),
        ("ALERT_WEBHOOK_FILE=hook", f"ALERT_WEBHOOK_FILE {ABSOLUTE}", "it is 'hook'"),
        ("CSV_DIR=bars", f"CSV_DIR {ABSOLUTE}", "it is 'bars'"),
        ("DATA_CA_FILE=./ca.crt", f"DATA_CA_FILE {ABSOLUTE}", "it is './ca.crt'"),
        ("SCHEDULER_ENABLED=maybe", "SCHEDULER_ENABLED is neither true nor false", "it is 'maybe'"),
        ("SYNC_AT=25:00", "SYNC_AT is not a time of the day, such as 16:30", "it is '25:00'"),
        ("SYNC_FROM=2026-02-30", "SYNC_FROM is not a day, such as 2024-01-31", "it is '2026-02-30'"),
        (
            "API_TOKEN=short",
            "API_TOKEN is shorter than 16 characters",
            "`stockhelper init` writes a .env with a random one",
        ),
        ("APP_DB_PASSWORD=''", "APP_DB_PASSWORD is empty", "`stockhelper init` writes a .env with a random one"),
    ],
)
def test_a_bad_value_is_named_with_file_line_and_key(tmp_path: Path, line: str, complaint: str, cause: str) -> None:
    key = line.partition("=")[0]
    others = [f"{name}={value}" for name, value in GOOD.items() if name != key]
    with pytest.raises(ConfigError) as raised:
        settings_of(tmp_path, "\n".join(["# settings", *others, line]) + "\n")
    error = raised.value
    assert (error.code, error.exit_code) == ("config.value", ExitCode.CONFIGURATION)
    assert error.message == f"{tmp_path / '.env'}:{len(others) + 2}: {complaint}"
    assert error.cause == cause
    assert error.next == (f"mend {key}, then: stockhelper up",)


def test_a_key_that_must_be_set_is_missed_by_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        settings_of(tmp_path, "POSTGRES_PASSWORD=a\n")
    assert raised.value.message == f"{tmp_path / '.env'}: APP_DB_PASSWORD is not set"


def test_a_bad_value_of_the_shell_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    text = "APP_PORT=8000\n" + "".join(f"{key}={value}\n" for key, value in GOOD.items())
    with pytest.raises(ConfigError) as raised:
        settings_of(tmp_path, text, {"APP_PORT": "0"})
    assert raised.value.message == f"environment: APP_PORT {RANGE}"


def test_no_complaint_shows_a_password(tmp_path: Path) -> None:
    """Even where pydantic would print the input."""
    with pytest.raises(ConfigError) as raised:
        settings_of(tmp_path, "POSTGRES_PASSWORD=canary-secret\nAPP_DB_PASSWORD=\n")
    shown = " ".join((raised.value.message, raised.value.cause, *raised.value.next))
    assert "canary-secret" not in shown


def test_the_first_of_several_bad_values_is_named() -> None:
    with pytest.raises(ConfigError, match="APP_BIND"):
        load_settings({**GOOD, "APP_PORT": "0", "APP_BIND": "x"}, None)


def test_settings_ignore_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the given values count, never the environment of the process."""
    monkeypatch.setenv("APP_PORT", "0")
    assert load_settings(GOOD, None).APP_PORT == 8000


def test_all_of_several_bad_values_can_be_had_each_once() -> None:
    errors = bad_values({**GOOD, "APP_PORT": "0", "APP_BIND": "x", "POSTGRES_PASSWORD": ""}, None)
    assert [error.message.split()[1] for error in errors] == ["APP_BIND", "APP_PORT", "POSTGRES_PASSWORD"]
    assert bad_values(GOOD, None) == []


def test_a_misspelt_key_is_offered_for_the_one_that_is_missed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        settings_of(tmp_path, "OTHER=1\nPOSTGRES_PASWORD=a\nAPP_DB_PASSWORD=b\n")
    assert raised.value.cause == f"{tmp_path / '.env'}:2 sets POSTGRES_PASWORD: did you mean POSTGRES_PASSWORD?"
