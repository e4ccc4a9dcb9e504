"""Private roots: copied one a file, nothing but certificates, and only our own files are ever removed."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stockhelper_cli.compose.dotenv import load_dotenv
from stockhelper_cli.errors import ConfigError
from stockhelper_cli.machine.roots import sync_roots
from stockhelper_cli.machine.setup import sync_own_roots

Make = Callable[[str], tuple[str, str]]


@pytest.fixture(scope="module")
def make() -> Make:
    """Make a self-signed certificate by a name: certificate and private key, both PEM."""

    def certificate(name: str) -> tuple[str, str]:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        output = ["-subj", f"/CN={name}", "-days", "1", "-keyout", "-", "-out", "-"]
        pem = subprocess.run([*command, *output], capture_output=True, text=True, check=True).stdout
        key, marker, rest = pem.partition("-----BEGIN CERTIFICATE-----")
        return marker + rest, key

    return certificate


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    return tmp_path / "host"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "README.md").write_text("read me\n")
    (tmp_path / "ca" / "mine.crt").write_text("put here by hand\n")
    return tmp_path / "ca"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"README.md", "mine.crt"}


def test_the_hosts_roots_come_and_go_and_nothing_else_is_touched(make: Make, host: Path, folder: Path) -> None:
    first, second = make("first")[0], make("second")[0]
    (host / "one.crt").write_text(first)
    (host / "sub dir").mkdir()
    (host / "sub dir" / "two.crt").write_text(second)
    (host / "not-taken.pem").write_text(first)

    result = sync_roots(folder, host=host)
    assert set(result.written) == names(folder) == {"host-one.crt", "host-sub_dir-two.crt"}
    assert (folder / "host-one.crt").read_text() == first
    assert stat.S_IMODE((folder / "host-one.crt").stat().st_mode) == 0o644

    assert not sync_roots(folder, host=host).changed

    (host / "one.crt").unlink()
    (host / "sub dir" / "two.crt").write_text(first)
    result = sync_roots(folder, host=host)
    assert (result.present, result.written, result.removed) == (
        ("host-sub_dir-two.crt",),
        ("host-sub_dir-two.crt",),
        ("host-one.crt",),
    )
    assert (folder / "mine.crt").exists()
    assert (folder / "README.md").exists()


def test_a_host_without_roots(tmp_path: Path, folder: Path) -> None:
    assert sync_roots(folder, host=tmp_path / "none").present == ()


def test_a_bundle_is_taken_apart_and_its_private_key_stays_out(
    make: Make, tmp_path: Path, host: Path, folder: Path
) -> None:
    (first, key), (second, _) = make("first"), make("second")
    bundle = tmp_path / "proxy.pem"
    bundle.write_text(f"# comment\n{first}{key}{second}")
    result = sync_roots(folder, bundle, host=host)
    assert result.present == ("host-file-proxy.crt", "host-file-proxy-2.crt")
    assert [(folder / name).read_text() for name in result.present] == [first, second]


def test_a_certificate_of_the_host_that_is_none_is_passed_over(host: Path, folder: Path) -> None:
    (host / "bad.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (host / "binary.crt").write_bytes(b"\x30\x82\xff")
    assert sync_roots(folder, host=host).present == ()


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_unusable_ca_bundle_is_reported_with_its_line(tmp_path: Path, content: str | None) -> None:
    """A bundle that cannot be used is reported with the line that names it."""
    (tmp_path / ".env").write_text("A=1\nBUILD_CA_FILE=certs/ca.pem\n")
    if content is not None:
        (tmp_path / "certs").mkdir()
        (tmp_path / "certs" / "ca.pem").write_text(content)
    with pytest.raises(ConfigError) as raised:
        sync_own_roots(tmp_path, load_dotenv(tmp_path / ".env"), {})
    assert raised.value.code == "config.value"
    what = "cannot be read" if content is None else "is not a PEM bundle of certificates"
    assert raised.value.message == f"{tmp_path}/.env:2: BUILD_CA_FILE is {tmp_path}/certs/ca.pem, which {what}"


def test_the_shells_bundle_counts_more(make: Make, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BUILD_CA_FILE=gone.pem\n")
    (tmp_path / "shell.pem").write_text(make("shell")[0])
    result = sync_own_roots(tmp_path, load_dotenv(tmp_path / ".env"), {"BUILD_CA_FILE": "shell.pem"})
    assert "host-file-shell.crt" in result.present
