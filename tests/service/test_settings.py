from __future__ import annotations

import uuid

import pytest
from psycopg.sql import SQL, Identifier, Literal

from stockhelper_app.settings import MigrationSettings, Settings, SettingsError, load
from tests.service.conftest import serving
from tests.support.postgres import Postgres

NASTY = [
    r"""@:/?#%'"\ """,
    "100%s %(x)s %%",
    " leading and trailing ",
    "host=evil port=1",
    "密码·пароль",
    "$HOME ${X} `id`",
]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*Settings.model_fields, *MigrationSettings.model_fields}:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.anyio
@pytest.mark.parametrize("password", NASTY)
async def test_any_password_works(password: str, database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    # The name is as hostile as the password.
    name = f"o'role\"@/ {uuid.uuid4().hex[:8]}"
    with database.connect() as connection:
        connection.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(name), Literal(password)))
    try:
        for key, value in database.as_role(name, password).environment.items():
            monkeypatch.setenv(key, value)
        async with serving(load(Settings)) as client:
            assert (await client.get("/api/v1/health")).status_code == 200
    finally:
        with database.connect() as connection:
            connection.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def test_a_password_is_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "canary-secret")
    settings = load(Settings)
    assert "canary-secret" not in f"{settings} {settings!r} {settings.url} {settings.url!r}"
    assert settings.url.password == "canary-secret"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DB_POOL_SIZE", "LOG_LEVEL", "CORS_ORIGINS", "POSTGRES_PORT", "MIGRATION_LOCK_TIMEOUT"):
        monkeypatch.setenv(name, "")
    assert load(Settings) == Settings()
    assert load(MigrationSettings).migration_lock_timeout == 300


def test_lists_and_levels_are_read_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", " https://a.example, http://localhost:3000 ,")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    settings = load(Settings)
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_PORT", "0"),
        ("POSTGRES_PORT", "65536"),
        ("POSTGRES_PORT", "80a"),
        ("DB_POOL_SIZE", "0"),
        ("DB_POOL_SIZE", "-1"),
        ("LOG_LEVEL", "loud-canary"),
        ("CORS_ORIGINS", "charts.example"),
        ("CORS_ORIGINS", "https://charts.example/"),
        ("DB_CONNECT_TIMEOUT", "nan"),
    ],
)
def test_a_bad_value_is_named_and_not_shown(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"^{name}: ") as caught:
        load(Settings)
    assert "\n" not in str(caught.value)
    if "canary" in value:
        assert value not in str(caught.value)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon"])
def test_a_bad_time_limit_of_migrations_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATION_LOCK_TIMEOUT", value)
    with pytest.raises(SettingsError, match=r"^MIGRATION_LOCK_TIMEOUT: "):
        load(MigrationSettings)
