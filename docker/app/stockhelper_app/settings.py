"""What the environment decides, read once at start. A value that cannot be used is named, and never shown."""

import datetime as dt
import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import URL

Port = Annotated[int, Field(ge=1, le=65535)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

# https://developer.mozilla.org/docs/Web/HTTP/Headers/Origin: scheme, host and port, nothing behind them.
_ORIGIN = re.compile(r"https?://[^/\s?#@]+")
_BASE_URL = re.compile(r"https?://[^/\s?#@]+(/[^\s?#]*)?")


class SettingsError(ValueError):
    """The environment holds values that cannot be used; the message names every variable and why, without the value."""


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _origin(value: str) -> str:
    if value != "*" and not _ORIGIN.fullmatch(value):
        raise ValueError("an origin is written as https://host or https://host:port, or * for all")
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _clock(value: object) -> object:
    # Not pydantic's own reading: it takes 1630 for seconds.
    if isinstance(value, str):
        value = dt.time.fromisoformat(value)
    if isinstance(value, dt.time) and value.tzinfo is not None:
        raise ValueError("the time is Asia/Shanghai's, without a zone of its own")
    return value


def _day(value: object) -> object:
    return dt.date.fromisoformat(value) if isinstance(value, str) else value


def _http(value: str) -> str:
    if not _BASE_URL.fullmatch(value):
        raise ValueError("an address is written as https://host/path, without user, query or fragment")
    return value


class DatabaseSettings(BaseSettings):
    """Where PostgreSQL is and who connects: the application's own role in the service, the owner when migrating."""

    # Other variables are none of our business: the containers get the whole .env. An empty one counts as not set,
    # as that is what Compose makes of `KEY=`. A message with the input in it could hold a password.
    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, hide_input_in_errors=True, frozen=True)

    postgres_host: str = "127.0.0.1"
    postgres_port: Port = 5432
    postgres_user: str = "stockhelper"
    postgres_password: SecretStr = SecretStr("")
    postgres_db: str = "stockhelper"
    #: Seconds until a new connection is given up; libpq takes whole ones only.
    db_connect_timeout: Annotated[int, Field(ge=2, le=300)] = 5

    @property
    def url(self) -> URL:
        """The database's address for SQLAlchemy; composed from parts, so that any password works."""
        return URL.create(
            "postgresql+psycopg",
            username=self.postgres_user,
            password=self.postgres_password.get_secret_value(),
            host=self.postgres_host,
            port=self.postgres_port,
            database=self.postgres_db,
        )


class Settings(DatabaseSettings):
    """What the service is told."""

    #: How many worker processes uvicorn starts, which reads it by itself.
    web_concurrency: Annotated[int, Field(ge=1, le=64)] = 1
    #: Connections for each worker; all of them together must fit into PostgreSQL's max_connections (100).
    db_pool_size: Annotated[int, Field(ge=1, le=100)] = 5
    log_level: Annotated[LogLevel, BeforeValidator(_upper)] = "INFO"
    #: Origins that browsers may call from, comma-separated; none by default.
    cors_origins: Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split)] = ()

    #: What a caller must show to change something; without one nothing can be changed over HTTP.
    api_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    #: Where the host publishes the service; beyond loopback, reading needs the token too …
    app_bind: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    #: … unless everybody may read.
    api_public_read: bool = False
    #: Where the metrics are, inside the container; nowhere unless it is set. The public port knows nothing of them.
    metrics_port: Port | None = None

    #: The token of Tushare Pro; without one the bars come from CSV files.
    tushare_token: SecretStr | None = None
    tushare_url: Annotated[str, AfterValidator(_http)] = "http://api.tushare.pro"
    #: How often it may be asked; what an account may do depends on its points.
    tushare_calls_per_minute: Annotated[int, Field(ge=1, le=10_000)] = 200
    #: A folder of CSV files with bars; where there is none, the sample that comes with the service.
    csv_dir: Path | None = None
    #: Root certificates (PEM) to trust besides the usual ones; what is no file counts as none.
    data_ca_file: Path | None = None

    #: After how many days without a verified backup the metrics are to alarm; what `stockhelper doctor` warns by, too.
    backup_max_age: Annotated[int, Field(ge=1, le=3650)] = 8

    #: Whether this process runs the sync by itself.
    scheduler_enabled: bool = True
    #: When, in Asia/Shanghai; the exchanges close at 15:00, and providers need an hour or so.
    sync_at: Annotated[dt.time, BeforeValidator(_clock)] = dt.time(16, 30)
    #: The first day to have bars of; by default what the provider suggests.
    sync_from: Annotated[dt.date, BeforeValidator(_day)] | None = None


class MigrationSettings(DatabaseSettings):
    """What the migrations are told."""

    #: The application's role, made or repaired with each migration; not touched when no name is given.
    app_db_user: str = ""
    app_db_password: SecretStr = SecretStr("")
    #: Seconds to wait for another migration that is running.
    migration_lock_timeout: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 300
    #: Milliseconds that one statement waits for a lock that somebody else holds, before it lets the queue go by.
    migration_statement_lock_timeout: Annotated[int, Field(ge=1, le=3_600_000)] = 5000
    #: How often a migration that did not get its lock is tried again.
    migration_retries: Annotated[int, Field(ge=0, le=100)] = 5


_S = TypeVar("_S", bound=DatabaseSettings)


def load(kind: type[_S]) -> _S:
    """Return settings of the given kind from the environment; raises `SettingsError`."""
    try:
        return kind()
    except ValidationError as error:
        faults = "; ".join(
            f"{str(fault['loc'][0]).upper() if fault['loc'] else 'settings'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise SettingsError(faults) from None
