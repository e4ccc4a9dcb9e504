#!/bin/sh
# The last hook of every recipe: leave in the new root ($1) what an image for containers has, and nothing of this machine's.
set -eu
root=$1
here=$(dirname "$0")

# One deb822 file, as the official images have it, so that one Dockerfile can edit it on either family.
awk '
    { sub(/\[[^]]*\] */, "") }
    $1 == "deb" {
        components = $4
        for (i = 5; i <= NF; i++) components = components " " $i
        if (written++) print ""
        print "Types: deb"
        print "URIs: " $2
        print "Suites: " $3
        print "Components: " components
        print "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
    }' "$root/etc/apt/sources.list" >"$root/etc/apt/sources.list.d/debian.sources"
rm "$root/etc/apt/sources.list"

# This machine's proxies and credentials came in through here.
rm "$root/etc/apt/apt.conf.d/99mmdebstrap"
cp "$here/apt.conf" "$root/etc/apt/apt.conf.d/90container"
mv "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/container"
# An image layer is written whole or not at all: syncing each file only costs time.
echo force-unsafe-io >>"$root/etc/dpkg/dpkg.cfg.d/container"

rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old \
    "$root"/var/cache/ldconfig/aux-cache
find "$root/var/log" -type f -delete
