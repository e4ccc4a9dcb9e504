"""Which proxies a build and a program of this machine are told about."""

from __future__ import annotations

import pytest

from stockhelper_cli.proxies import build_proxies, proxies


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_a_proxy_is_told_under_both_spellings(name: str) -> None:
    told = {"HTTPS_PROXY": "http://p.example:1", "https_proxy": "http://p.example:1"}
    assert proxies({name: "http://p.example:1", "PATH": "/bin", "HTTP_PROXY": ""}) == told
    assert build_proxies({name: "http://p.example:1"}) == told


def test_two_spellings_that_differ_stay_what_they_are() -> None:
    given = {"HTTP_PROXY": "http://big.example", "http_proxy": "http://small.example"}
    assert proxies(given) == given


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:3128", "localhost:3128", "http://me:pw@[::1]:1", "127.9.9.9:1"])
def test_a_proxy_on_loopback_is_not_for_a_build(proxy: str) -> None:
    given = {"http_proxy": proxy, "HTTPS_PROXY": "p.example:1", "NO_PROXY": "127.0.0.1,localhost"}
    assert set(build_proxies(given)) == {"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"}
    assert proxies(given)["http_proxy"] == proxy
