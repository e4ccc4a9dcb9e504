"""The settings that stockhelper itself looks at, validated; the mapping they come from is Compose's."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stockhelper_cli import age
from stockhelper_cli.compose.dotenv import place_of
from stockhelper_cli.engine.reference import mirror_name
from stockhelper_cli.errors import ConfigError

if TYPE_CHECKING:
    from stockhelper_cli.compose.dotenv import Dotenv


def _without_brackets(address: Any) -> Any:
    if not isinstance(address, str) or ":" not in address:
        return address
    if not (address.startswith("[") and address.endswith("]")):
        raise ValueError("is not an IPv4 address; one of IPv6 stands in brackets, as in [::1]")
    return address[1:-1]


def _upper(level: Any) -> Any:
    return level.upper() if isinstance(level, str) else level


#: As the published port of a compose file has it: one of IPv6 stands in brackets.
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(_without_brackets)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
WorkerCount = Annotated[int, Field(ge=1, le=64)]
PoolSize = Annotated[int, Field(ge=1, le=100)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)]
NonEmpty = Annotated[str, Field(min_length=1)]


def _address_and_port(value: str) -> str:
    address, _, port = value.rpartition(":")
    if address.startswith("[") == address.endswith("]"):
        with suppress(ValueError):
            ip_address(address.strip("[]"))
            if ("[" in address) == (":" in address) and port.isascii() and port.isdecimal() and 0 < int(port) < 65536:
                return value
    raise ValueError("is not an address and a port, such as 127.0.0.1:9464 or [::1]:9464")


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("is not an absolute path; Compose would take it relative to compose/, or for a volume")
    if ":" in value:
        raise ValueError("has a colon in it, which Compose takes for the end of the path")
    return value


def _volume_name(value: str) -> str:
    if re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", value):
        return value
    raise ValueError("is not a volume's name: letters, digits, and within it _ . -")


def _clock(value: str | dt.time) -> dt.time:
    if isinstance(value, dt.time):
        return value
    with suppress(ValueError):
        time = dt.time.fromisoformat(value)
        if time.tzinfo is None:
            return time
    raise ValueError("is not a time of the day, such as 16:30")


def _day(value: str) -> dt.date:
    with suppress(ValueError):
        return dt.date.fromisoformat(value)
    raise ValueError("is not a day, such as 2024-01-31")


def _time_span(value: str) -> str:
    if re.fullmatch(r"([0-9]+(ms|[smhdwy]))+", value):
        return value
    raise ValueError("is not a time span as Prometheus has it, such as 15d or 1d12h")


def _recipients(keys: str) -> str:
    for key in age.split(keys):
        age.recipient(key)
    return keys


def _copy_command(command: str) -> str:
    if "{}" not in command:
        raise ValueError("has no {} where the file's name belongs, as in: scp {} me@home:backups/")
    return command


AbsolutePath = Annotated[str, AfterValidator(_absolute)]


class Settings(BaseSettings):
    """What .env and the environment say, as far as a wrong value can be told before anything is done."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, case_sensitive=True)

    APP_BIND: Address = IPv4Address("127.0.0.1")
    APP_PORT: PortNumber = 8000
    DB_PORT: PortNumber = 5432
    POSTGRES_USER: NonEmpty = "stockhelper"
    POSTGRES_PASSWORD: NonEmpty
    POSTGRES_DB: NonEmpty = "stockhelper"
    APP_DB_USER: NonEmpty = "stockhelper_app"
    APP_DB_PASSWORD: NonEmpty
    WEB_CONCURRENCY: WorkerCount = 1
    DB_POOL_SIZE: PoolSize = 5
    LOG_LEVEL: LogLevel = "INFO"
    API_TOKEN: Annotated[str, Field(min_length=16)] | None = None
    API_PUBLIC_READ: bool = False
    METRICS_BIND: Annotated[str, AfterValidator(_address_and_port)] | None = None
    TUSHARE_CALLS_PER_MINUTE: Annotated[int, Field(ge=1, le=10_000)] = 200
    CSV_DIR: AbsolutePath | None = None
    DATA_CA_FILE: AbsolutePath | None = None
    SCHEDULER_ENABLED: bool = True
    SYNC_AT: Annotated[dt.time, PlainValidator(_clock)] = dt.time(16, 30)
    SYNC_FROM: Annotated[dt.date, PlainValidator(_day)] | None = None
    BACKUP_RECIPIENTS: Annotated[str, AfterValidator(_recipients)] = ""
    BACKUP_COPY_COMMAND: Annotated[str, AfterValidator(_copy_command)] | None = None
    BACKUP_MAX_AGE: Annotated[int, Field(ge=1, le=3650)] = 8
    PROMETHEUS_BIND: Annotated[str, AfterValidator(_address_and_port)] = "127.0.0.1:9090"
    PROMETHEUS_RETENTION: Annotated[str, AfterValidator(_time_span)] = "15d"
    ALERTMANAGER_BIND: Annotated[str, AfterValidator(_address_and_port)] = "127.0.0.1:9093"
    ALERTMANAGER_CONFIG: AbsolutePath | None = None
    ALERT_WEBHOOK_FILE: AbsolutePath | None = None
    IMAGE_MAX_AGE_DAYS: Annotated[int, Field(ge=1, le=3650)] = 180
    REGISTRY_MIRROR: Annotated[str, AfterValidator(mirror_name)] | None = None
    PYTHON_IMAGE: str = "python:3.13-slim"
    POSTGRES_IMAGE: str = "postgres:15-alpine"
    POSTGRES_VOLUME: Annotated[str, AfterValidator(_volume_name)] | None = None

    @field_validator("APP_DB_USER")
    @classmethod
    def _not_the_owner(cls, value: str, info: Any) -> str:
        if value == info.data.get("POSTGRES_USER"):
            raise ValueError("must not be POSTGRES_USER: the application's role may not be the owner")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the given mapping only: Compose's rules have already decided between shell and .env."""
        return (init_settings,)


def load_settings(environment: Mapping[str, str], dotenv: Dotenv | None) -> Settings:
    """Return the settings of a resolved environment.

    Raises `ConfigError` (config.value) for the first bad value, naming file, line and key.
    """
    given = _given(environment)
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise _errors(error, given, environment, dotenv)[0] from error


def bad_values(environment: Mapping[str, str], dotenv: Dotenv | None) -> list[ConfigError]:
    """Return what is wrong with a resolved environment: an error for each bad value, as `load_settings` raises it."""
    given = _given(environment)
    try:
        Settings.model_validate(given)
    except ValidationError as error:
        return _errors(error, given, environment, dotenv)
    return []


def _given(environment: Mapping[str, str]) -> Mapping[str, str]:
    given = {key: environment[key] for key in Settings.model_fields if key in environment}
    # Compose's `${APP_PORT:-8000}` takes empty as unset; what may not be empty has no default there.
    return {k: v for k, v in given.items() if v or Settings.model_fields[k].is_required()}


def _errors(
    invalid: ValidationError, given: Mapping[str, str], environment: Mapping[str, str], dotenv: Dotenv | None
) -> list[ConfigError]:
    # A value may be several types at once, and is then wrong for each of them: told once.
    details = {str(each["loc"][0]): each for each in reversed(invalid.errors(include_url=False, include_context=False))}
    return [
        ConfigError(
            "config.value",
            f"{place_of(key, environment, dotenv)}: {key} {_complaint(key, detail['type'], detail['msg'])}",
            cause=_misspelt(key, dotenv) or _shown(key, given),
            next=[f"mend {key}, then: stockhelper up"],
        )
        for key, detail in reversed(details.items())
    ]


def _misspelt(key: str, dotenv: Dotenv | None) -> str:
    """Say which unknown key of .env may have been meant as this one that it does not set, "" if none."""
    if dotenv is None or key in dotenv:
        return ""
    near = difflib.get_close_matches(key, [other for other in dotenv if other not in Settings.model_fields], 1, 0.8)
    return f"{dotenv.shown}:{dotenv.line(near[0])} sets {near[0]}: did you mean {key}?" if near else ""


def _complaint(key: str, kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "is not set"
        case "string_too_short":
            return "is shorter than 16 characters" if key == "API_TOKEN" else "is empty"
        case "int_parsing":
            return "is not a whole number"
        case "greater_than_equal" | "less_than_equal":
            least, most = Settings.model_fields[key].metadata
            return f"is not {'a port number ' if key.endswith('PORT') else ''}from {least.ge} to {most.le}"
        case "literal_error":
            return f"is none of {', '.join(get_args(Settings.model_fields[key].annotation))}"
        case "bool_parsing":
            return "is neither true nor false"
        case "ip_v4_address" | "ip_v6_address" | "ip_any_address":
            return "is not an IPv4 or IPv6 address"
        case _:
            message = message.removeprefix("Value error, ")
            return message[:1].lower() + message[1:]


def _shown(key: str, given: Mapping[str, str]) -> str:
    """Show the bad value, unless it is a secret."""
    if key == "BACKUP_RECIPIENTS":  # its complaint shows the one that is wrong, unless that is a private key
        return ""
    secret = key.endswith(("PASSWORD", "TOKEN"))
    if key not in given or secret:
        return "`stockhelper init` writes a .env with a random one" if secret else ""
    return f"it is {given[key]!r}"
