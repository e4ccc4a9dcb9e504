# shellcheck shell=sh
# What both recipes share: `bootstrap SUITE OPTION…` writes the tar of a root file system to stdout.
#
# Sourced, not run. $here is the folder of this file. Needs mmdebstrap and Debian's archive keyring; as root, or as
# anyone where user namespaces are allowed (mmdebstrap finds out which by itself).

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    echo "error: $*" >&2
    exit 1
}

# Print APT_MIRROR, which stands for http://…/debian as in the service's image, else this machine's own Debian mirrors, as
# apt lines for the release $1, nothing where there is none (Ubuntu): mmdebstrap then falls back to the public mirrors.
sources() {
    if [ -n "${APT_MIRROR:-}" ]; then
        mirror=${APT_MIRROR%/}
        echo "deb [signed-by=$keyring] $mirror $1 main"
        echo "deb [signed-by=$keyring] $mirror $1-updates main"
        echo "deb [signed-by=$keyring] $mirror-security $1-security main"
        return
    fi
    codename=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-}") || return 0
    # From apt's configuration, in whatever format it is written. Without --no-release-info, apt leaves out the indexes
    # that this machine has not fetched yet, so the image would depend on what the machine did before.
    apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sort -u | awk -v own="$codename" -v release="$1" -v signed="[signed-by=$keyring]" '
            $3 == "main" && ($2 == own || $2 == own "-updates" || $2 == own "-security") {
                suffix = substr($2, length(own) + 1)
                print "deb", signed, $1, release suffix, "main"
                if (suffix == "") archive = $1
                if (suffix == "-security") security = 1
            }
            END {
                # As the official images have it. A mirror keeps it beside the archive, as APT_MIRROR does.
                sub("/$", "", archive)
                if (archive && !security) print "deb", signed, archive "-security", release "-security", "main"
            }'
}

# Print this machine's own ways to reach a mirror (proxies, certificates, clock tolerance), one apt option a line:
# mmdebstrap's apt reads only the configuration inside the new root.
machine_apt_options() {
    apt-config dump | grep -E '^Acquire::(https?::|Retries |Check-Valid-Until |Check-Date |ForceIPv)' |
        grep -vE '^[^ ]+ "";$' || :
    for file in /etc/apt/auth.conf; do
        if [ -r "$file" ]; then echo "Dir::Etc::netrc \"$file\";"; fi
    done
    echo 'Dir::Etc::netrcparts "/etc/apt/auth.conf.d/";'
}

bootstrap() {
    suite=$1
    shift
    # The positional parameters are the one list that a POSIX shell has.
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
    # Excluded for good, also for what is installed later: nobody reads manuals in a container.
    exec mmdebstrap --variant=minbase --format=tar --keyring="$keyring" \
        --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/i18n/*' \
        --dpkgopt='path-exclude=/usr/share/lintian/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook="$here/finish.sh \"\$1\"" \
        "$@"
}
