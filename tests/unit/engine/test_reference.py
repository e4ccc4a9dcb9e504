"""Names of images: their parts, and what a mirror has them by."""

from __future__ import annotations

import pytest

from stockhelper_cli.engine.reference import Reference, mirror_name, mirrored, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("postgres", Reference("postgres")),
        ("postgres:15-alpine", Reference("postgres", "15-alpine")),
        ("hub.example:5000/team/one", Reference("hub.example:5000/team/one")),
        ("hub.example:5000/team/one:2", Reference("hub.example:5000/team/one", "2")),
        (f"postgres@{DIGEST}", Reference("postgres", "", DIGEST)),
        (f"hub.example:5000/one:15@{DIGEST}", Reference("hub.example:5000/one", "15", DIGEST)),
    ],
)
def test_a_name_is_taken_apart_and_put_together_again(text: str, parts: Reference) -> None:
    assert parse(text) == parts
    assert str(parts) == text


def test_what_only_looks_like_a_digest_is_none() -> None:
    assert parse("http://me:secret@proxy.example:3128").digest == ""


@pytest.mark.parametrize(
    ("text", "asked_for", "tagged"),
    [
        ("one", "latest", "one:latest"),
        ("one:2", "2", "one:2"),
        (f"one:2@{DIGEST}", DIGEST, "one:2"),
        (f"one@{DIGEST}", DIGEST, ""),
    ],
)
def test_digest_overrides_tag_and_default_is_latest(text: str, asked_for: str, tagged: str) -> None:
    """A digest overrides a tag, and a name with neither means `latest`."""
    assert (parse(text).version, parse(text).tagged) == (asked_for, tagged)


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("postgres:15-alpine", "hub.example/library/postgres:15-alpine"),
        ("team/one", "hub.example/team/one"),
        (f"postgres:15@{DIGEST}", f"hub.example/library/postgres:15@{DIGEST}"),
        ("localhost/stockhelper-app:latest", None),
        ("other.example/one:1", None),
        ("127.0.0.1:5000/one", None),
    ],
)
def test_mirror_applies_to_docker_hub_images_only(text: str, there: str | None) -> None:
    """A mirror has the images of the public registry and no others."""
    found = mirrored(parse(text), "hub.example")
    assert (str(found) if found else None) == there
    assert mirrored(parse(text), "") is None


@pytest.mark.parametrize(
    "name", ["hub.example", "hub.example/docker-hub/a_b", "127.0.0.1:5000", "localhost", "[::1]:5000/x", "hub:5000"]
)
def test_a_mirror_is_a_host_with_or_without_port_and_prefix(name: str) -> None:
    assert mirror_name(name) == name


@pytest.mark.parametrize(
    "name", ["https://hub.example", "hub", "hub/x", "localhosts/x", "hub.example/", "hub.example/A", "a b.c", ""]
)
def test_what_cannot_stand_before_an_images_name_is_no_mirror(name: str) -> None:
    with pytest.raises(ValueError, match="is not HOST"):
        mirror_name(name)
