"""`network.tls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stockhelper_cli.doctor import tls
from stockhelper_cli.doctor.check import Check, Group, failed, ok, warning
from stockhelper_cli.doctor.needs import Index, index_of
from stockhelper_cli.machine.roots import certificates_in, distribution_roots, wanted_roots
from stockhelper_cli.machine.setup import CA_FILE_KEY, CA_FOLDER, own_bundle, sync_own_roots

if TYPE_CHECKING:
    from stockhelper_cli.doctor.context import Context
    from stockhelper_cli.events import Emit
    from stockhelper_cli.findings import Finding

_SECONDS: Final = 4.0


class NetworkTls(Check):
    """Tells whether TLS is intercepted on the way that a build takes, and whether the build trusts who does it.

    A build trusts what its base image's distribution brings, which is taken to be what this one's does, and the
    certificates in docker/app/ca.
    """

    id = "network.tls"
    group = Group.NETWORK
    title = "a build trusts the certificates that it will be shown"
    needs = ("network.index",)
    seconds = 15.0  # a few connections, one after the other
    explains = frozenset({"image.build"})
    fixes = "puts this machine's own root certificates where the build finds them, as `setup` does"

    def examine(self, context: Context) -> Finding:
        """Look at the index's certificate where one is named, else at the roots alone."""
        if not context.needs.builds:
            return ok("no build is due")
        folder = context.root / CA_FOLDER
        given = {path.name: path.read_text(errors="replace") for path in sorted(folder.glob("*.crt"))}
        bundle, named_by = own_bundle(context.root, context.project.dotenv, context.environ)
        wanted = wanted_roots(bundle, named_by=named_by)
        lacking = [name for name, certificate in wanted.items() if given.get(name) != certificate]
        fix = f"put {', '.join(lacking)} into {CA_FOLDER}" if lacking else ""
        index = index_of(context.builds)
        if index is not None and index.secure:
            return _judge_index(index, given, list(wanted.values()), fix)
        if lacking:
            return warning(
                f"a build does not trust {len(lacking)} root certificate{'' if len(lacking) == 1 else 's'} that this"
                " machine does",
                f"where TLS is intercepted, it fails; {CA_FOLDER} lacks {', '.join(lacking)}",
                commands=["stockhelper setup"],
                fix=fix,
            )
        return ok(f"the distribution's, and {', '.join(given) or 'no others'} of {CA_FOLDER}")

    def mend(self, context: Context, emit: Emit) -> None:
        """Put them there."""
        sync_own_roots(context.root, context.project.dotenv, context.environ)


def _judge_index(index: Index, given: dict[str, str], wanted: list[str], fix: str) -> Finding:
    """Try what the build trusts, then what more this machine does, to tell whose certificate it is."""
    place = f"{index.host}:{index.port}"
    try:
        issuer = tls.issuer(index.host, index.port, _SECONDS)
        distribution = distribution_roots()
        if not tls.objection(index.host, index.port, distribution, _SECONDS):
            return ok(f"{place} shows a certificate by {issuer}, which the distribution's roots vouch for")
        own = [certificate for text in given.values() for certificate in certificates_in(text)]
        objection = tls.objection(index.host, index.port, [*distribution, *own], _SECONDS)
        if not objection:
            return ok(
                f"TLS is intercepted: {place} shows a certificate by {issuer}; the build trusts it by {CA_FOLDER}"
            )
        trusted_here = not tls.objection(index.host, index.port, [*distribution, *wanted], _SECONDS)
    except OSError as error:
        return failed(f"{place} does not speak TLS as it should", error.strerror or str(error))
    if trusted_here:
        return failed(
            f"TLS is intercepted: {place} shows a certificate by {issuer}, which a build does not trust",
            f"this machine trusts it; {CA_FOLDER} does not hold its root",
            commands=["stockhelper setup"],
            fix=fix,
        )
    return failed(
        f"{place} shows a certificate by {issuer}, which neither this machine nor a build trusts",
        objection,
        remedy=f"set {CA_FILE_KEY} in .env to a file (PEM) with its root certificate, then:",
        commands=["stockhelper setup"],
    )
