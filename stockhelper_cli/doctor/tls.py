"""Who issued the certificate that a server shows, and whether given roots vouch for it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import Any


def issuer(host: str, port: int, seconds: float) -> str:
    """Return the name of who issued a server's certificate: organisation and common name, as far as they are given.

    Nothing is verified. Raises `OSError` where no TLS connection comes about.
    """
    shown = ssl.get_server_certificate((host, port), timeout=seconds)
    # Only a verified certificate is decoded: this one is made its own root, to be read.
    context = _trusting([shown])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    try:
        with (
            socket.create_connection((host, port), timeout=seconds) as connection,
            context.wrap_socket(connection, server_hostname=host) as secure,
        ):
            certificate = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError:  # it has expired, say
        return "an issuer that cannot be read"
    distinguished: Any = certificate.get("issuer", ())
    names = {key: value for part in distinguished for key, value in part}
    return ", ".join(dict.fromkeys(names[key] for key in ("organizationName", "commonName") if key in names))


def objection(host: str, port: int, roots: Iterable[str], seconds: float) -> str:
    """Return why a server's certificate is not to be trusted by these roots (PEM), "" if it is.

    Raises `OSError` where no TLS connection comes about.
    """
    try:
        with (
            socket.create_connection((host, port), timeout=seconds) as connection,
            _trusting(roots).wrap_socket(connection, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message or str(error)


def _trusting(roots: Iterable[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if pem := "".join(roots):
        context.load_verify_locations(cadata=pem)
    return context
