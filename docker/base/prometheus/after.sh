#!/bin/sh
# After the packages are unpacked into the new root ($1): leave what the program ($2) needs, and nothing of this machine's.
set -eu
root=$1
name=$2

# There is no apt in it, and this machine's proxies and credentials came in through here; mmdebstrap removes its last file.
find "$root/etc/apt" -type f ! -name 00mmdebstrap -delete
rm -rf "$root"/var/lib/apt "$root"/var/cache/apt
# What the package has, or depends on, to be a service of a whole machine.
cd "$root/usr/share"
rm -rf javascript perl5 man doc/*/changelog* locale bash-completion
for applet in $(chroot "$root" busybox --list); do
    [ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
install -d -m 755 -o 65534 -g 65534 "$root/$name"
