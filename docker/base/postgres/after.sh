#!/bin/sh
# After PostgreSQL $2 is installed in the new root ($1).
set -eu
root=$1
version=$2
here=$(dirname "$0")
sample=/usr/share/postgresql/$version/postgresql.conf.sample

cp "$here/docker-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"

# Inside of the new root: some of its paths are links (/var/run), which lead to this machine's own from out here.
chroot "$root" sh -eu <<EOS
chmod 755 /usr/local/bin/docker-entrypoint.sh
mkdir /docker-entrypoint-initdb.d
# A server in a container is reached from outside of it or not at all.
sed -i "s/^#listen_addresses = 'localhost'/listen_addresses = '*'/" $sample
grep -q "^listen_addresses = '[*]'" $sample

chown postgres:postgres /var/lib/postgresql
install -d -m 700 -o postgres -g postgres /var/lib/postgresql/data
# The engine gives a tmpfs that is mounted over it this folder's mode at the second start; without the folder that
# would be root's alone.
find /run -xdev -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf --one-file-system {} +
install -d -m 3777 -o postgres -g postgres /run/postgresql
# A key that every container of this image would share; nothing uses it.
rm -f /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem
EOS
