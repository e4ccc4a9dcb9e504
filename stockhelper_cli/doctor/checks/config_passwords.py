"""`config.passwords`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor.check import Check, Group, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding

#: Password -> the settings that it must not repeat.
_PASSWORDS: Final = {
    "POSTGRES_PASSWORD": ("POSTGRES_USER", "POSTGRES_DB"),
    "APP_DB_PASSWORD": ("APP_DB_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"),
}
#: NIST SP 800-63B asks for 15 characters where a password is all there is; nobody has to remember these.
_SHORTEST: Final = 12
#: What a guesser of databases' passwords begins with.
_COMMON: Final = ("password", "passwort", "postgres", "changeme", "secret", "admin", "123456", "qwerty", "stockhelper")


class ConfigPasswords(Check):
    """Looks for passwords that are soon guessed; none is ever shown."""

    id = "config.passwords"
    group = Group.CONFIGURATION
    title = "the database's passwords are not easily guessed"
    needs = ("config.values",)

    def examine(self, context: Context) -> Finding:
        """Judge each."""
        environment = context.variables.environment
        weak = {key: why for key in _PASSWORDS if (why := _weakness(key, environment))}
        if not weak:
            return ok(", ".join(_PASSWORDS))
        commands = ["stockhelper db set-password --generate"] if "POSTGRES_PASSWORD" in weak else []
        if "APP_DB_PASSWORD" in weak:
            commands.append("set APP_DB_PASSWORD to a long random one in .env, then: stockhelper up")
        return warning(
            f"{' and '.join(weak)} {'is' if len(weak) == 1 else 'are'} easily guessed",
            *(f"{key} {why}" for key, why in weak.items()),
            commands=commands,
        )


def _weakness(key: str, environment: Mapping[str, str]) -> str:
    """Return why a password is weak, "" if it is not."""
    password = environment.get(key, "")
    for other in _PASSWORDS[key]:
        if password == environment.get(other):
            return f"is the same as {other}"
    if len(password) < _SHORTEST:
        return f"has {len(password)} characters; {_SHORTEST} are few already"
    if len(set(password)) < 5:
        return "repeats the same few characters"
    bare = password.lower()
    for word in _COMMON:
        bare = bare.replace(word, "")
    return "is made of words that everybody tries first" if len(bare) < _SHORTEST // 3 else ""
