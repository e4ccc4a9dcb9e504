#!/bin/sh
# `recipe.sh VERSION > rootfs.tar`: PostgreSQL VERSION on the Debian release that brings it, in the shape of the
# official image: uid and gid 70 as in its alpine family, so that a volume can move between the two.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/common.sh"

version=${1:?usage: recipe.sh VERSION}
case $version in
    15) suite=bookworm ;;
    17) suite=trixie ;;
    *) fail "no recipe for PostgreSQL $version: it must be 15 or 17" ;;
esac

# LLVM alone is a third of the whole, and the server does without: no llvmjit.so means no JIT. Of the locales, C.UTF-8
# comes with the C library.
# after.sh clears /run itself, to leave the socket's folder in it.
bootstrap "$suite" \
    --skip=cleanup/run \
    --include="postgresql-$version,locales,gzip,xz-utils,zstd" \
    --dpkgopt='path-exclude=/usr/lib/*/libLLVM*' \
    --dpkgopt='path-exclude=/usr/lib/llvm-*' \
    --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/llvmjit*.so' \
    --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/bitcode/*' \
    --essential-hook="$here/postgres/before.sh \"\$1\"" \
    --customize-hook="$here/postgres/after.sh \"\$1\" $version"
