#!/bin/sh
# Before PostgreSQL is unpacked into the new root ($1).
set -eu
root=$1
# The package takes a user that is there already; its own would get whatever number is free.
echo 'postgres:x:70:' >>"$root/etc/group"
echo 'postgres:!::' >>"$root/etc/gshadow"
echo 'postgres:x:70:70::/var/lib/postgresql:/bin/sh' >>"$root/etc/passwd"
echo 'postgres:!:::::::' >>"$root/etc/shadow"
# No cluster at install time: the entrypoint makes one, in the volume.
mkdir -p "$root/etc/postgresql-common/createcluster.d"
echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.d/container.conf"
