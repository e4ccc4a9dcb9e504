"""`config.values`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockhelper_cli.doctor.check import Check, Group, failed, failure_of, ok

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.findings import Finding


class ConfigValues(Check):
    """Checks every setting that stockhelper itself looks at."""

    id = "config.values"
    group = Group.CONFIGURATION
    title = "required settings are set, and the values are valid"
    needs = ("config.env",)

    def examine(self, context: Context) -> Finding:
        """Check them all; with several that are bad, one finding names them all."""
        from stockhelper_cli.settings import bad_values

        variables = context.variables
        errors = bad_values(variables.environment, variables.dotenv)
        if not errors:
            return ok("all are valid")
        if len(errors) == 1:
            return failure_of(errors[0])
        told = [f"{error.message}: {error.cause}" if error.cause else error.message for error in errors]
        return failed(f"{len(errors)} settings are not valid", *told, commands=["mend them, then: stockhelper up"])
