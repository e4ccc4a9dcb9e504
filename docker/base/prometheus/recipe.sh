#!/bin/sh
# `recipe.sh VERSION > rootfs.tar`: Prometheus or Alertmanager, as its folder is called, of the Debian release that brings
# VERSION, in the shape of the official image: with promtool or amtool, Busybox for a shell, root certificates, and a
# folder for its data that nobody (65534) may write to.
#
# The packages are unpacked, not installed: the program needs the C library, and no more of a distribution.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)
here=$(dirname "$folder")
family=$(basename "$folder")
. "$here/common.sh"

version=${1:?usage: recipe.sh VERSION}
case $family-$version in
    prometheus-2.53) suite=trixie package=prometheus ;;
    alertmanager-0.28) suite=trixie package=prometheus-alertmanager ;;
    *) fail "no recipe for $family $version: it must be Prometheus 2.53 or Alertmanager 0.28" ;;
esac

# Not by `bootstrap`: to filter paths, of which after.sh removes the most, takes longer than all the rest.
set --
while read -r option; do
    set -- "$@" --aptopt="$option"
done <<LIST
$(machine_apt_options)
LIST
set -- "$@" "$suite" -
while read -r line; do
    [ -z "$line" ] || set -- "$@" "$line"
done <<LIST
$(sources "$suite")
LIST
exec mmdebstrap --variant=extract --skip=cleanup/apt --format=tar --keyring="$keyring" \
    --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Languages "none"' \
    --include=base-files,busybox,ca-certificates,$package \
    --extract-hook="$folder/after.sh \"\$1\" $family" \
    "$@"
