#!/bin/sh
# `recipe.sh VERSION > rootfs.tar`: Python VERSION on the Debian release that brings it, in the shape of the official
# slim image: `python` and `python3`, headers, venv, root certificates.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/common.sh"

version=${1:?usage: recipe.sh VERSION}
case $version in
    3.11) suite=bookworm ;;
    3.13) suite=trixie ;;
    *) fail "no recipe for Python $version: it must be 3.11 or 3.13" ;;
esac

# Headers, but no static libraries, which are the larger half: extension modules do not link them.
bootstrap "$suite" \
    --include="ca-certificates,python3,python-is-python3,python3-venv,libpython$version-dev" \
    --dpkgopt='path-exclude=/usr/lib/python3.*/config-*/*.a' \
    --dpkgopt='path-exclude=/usr/lib/*/libpython3.*.a' \
    --dpkgopt='path-exclude=/usr/lib/*/lib[cm].a' \
    --dpkgopt='path-exclude=/usr/lib/*/libm-*.a'
