"""Private root certificates: what this host trusts beyond its distribution's, for the builder stage to trust."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockhelper_cli.errors import ConfigError

#: Where Debian's update-ca-certificates takes an administrator's own certificates from.
HOST_ROOTS: Final = Path("/usr/local/share/ca-certificates")
#: What the files begin with that are written here; others in the folder are the user's and stay.
PREFIX: Final = "host-"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s.+?\s-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RootsResult:
    """The files in docker/app/ca: all that were synchronised, and which of them were written or removed now."""

    present: tuple[str, ...]
    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was written or removed."""
        return bool(self.written or self.removed)


def distribution_roots(host: Path = HOST_ROOTS) -> list[str]:
    """Return what this host trusts without its own roots (PEM, one each): what its distribution brings."""
    import ssl

    own = {_bare(certificate) for certificate in wanted_roots(host=host).values()}
    bundle = ssl.get_default_verify_paths().cafile
    text = Path(bundle).read_text(errors="replace") if bundle else ""
    found = [match.group() + "\n" for match in _CERTIFICATE.finditer(text)]
    return [certificate for certificate in found if _bare(certificate) not in own]


def _bare(certificate: str) -> str:
    """Return a certificate without the line ends, which differ from file to file."""
    return "".join(certificate.split())


def sync_roots(folder: Path, bundle: Path | None = None, *, named_by: str = "", host: Path = HOST_ROOTS) -> RootsResult:
    """Make `folder` hold the host's own root certificates and those of `bundle` (PEM), one a file, mode 0644.

    `named_by` says where `bundle` was asked for, for the message. Raises `ConfigError` (config.value) if the bundle
    does not exist, holds no certificate, or cannot be written to the folder.
    """
    wanted = wanted_roots(bundle, named_by=named_by, host=host)
    try:
        return _write(folder, wanted)
    except OSError as error:
        raise ConfigError("config.value", f"{folder}: cannot be written", cause=error.strerror or str(error)) from error


def wanted_roots(bundle: Path | None = None, *, named_by: str = "", host: Path = HOST_ROOTS) -> dict[str, str]:
    """Return the host's own root certificates and those of `bundle` (PEM), by the name of the file each would get.

    Raises `ConfigError` (config.value) if the bundle does not exist or holds no certificate.
    """
    wanted: dict[str, str] = {}
    for path in sorted(host.rglob("*.crt")) if host.is_dir() else ():
        # Other things with this ending the distribution's own tool would not take either.
        for number, certificate in enumerate(certificates_in(path.read_text(errors="replace"))):
            wanted[_name("-".join(path.relative_to(host).with_suffix("").parts), number)] = certificate
    if bundle is not None:
        for number, certificate in enumerate(_bundle(bundle, named_by)):
            wanted[_name(f"file-{bundle.stem}", number)] = certificate
    return wanted


def _write(folder: Path, wanted: dict[str, str]) -> RootsResult:
    folder.mkdir(parents=True, exist_ok=True)
    removed = [path for path in folder.glob(f"{PREFIX}*.crt") if path.name not in wanted]
    for path in removed:
        path.unlink()
    written = []
    for name, certificate in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_text(errors="replace") != certificate:
            path.write_text(certificate)
            written.append(name)
        path.chmod(0o644)
    return RootsResult(tuple(wanted), tuple(written), tuple(sorted(path.name for path in removed)))


def _name(stem: str, number: int) -> str:
    clean = re.sub(r"[^A-Za-z0-9._-]", "_", stem)
    return f"{PREFIX}{clean}.crt" if number == 0 else f"{PREFIX}{clean}-{number + 1}.crt"


def _bundle(path: Path, named_by: str) -> list[str]:
    what = f"{named_by or 'the bundle of root certificates'} is {path}"
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise ConfigError(
            "config.value", f"{what}, which cannot be read", cause=error.strerror or str(error)
        ) from error
    certificates = list(certificates_in(text))
    if not certificates or len(certificates) != text.count("-----BEGIN CERTIFICATE-----"):
        raise ConfigError(
            "config.value", f"{what}, which is not a PEM bundle of certificates", cause="found none, or a damaged one"
        )
    return certificates


def certificates_in(text: str) -> Iterator[str]:
    """Yield each usable certificate, and nothing else that a file holds (a private key must not get into an image)."""
    import ssl

    for match in _CERTIFICATE.finditer(text):
        certificate = match.group() + "\n"
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
        except ssl.SSLError:
            continue
        yield certificate
