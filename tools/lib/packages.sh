# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The platform, and the Debian packages that have to be there.

nlmmap_platform() {
    local lacks=
    NLMMAP_INSTEAD=$1
    if [ "$(uname -m)" != x86_64 ]; then
        lacks="this is $(uname -m), not x86-64"
    elif ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        lacks="there is no apt here"
    elif [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        lacks="neither root nor sudo, to install packages with"
    fi
    if [ -n "$lacks" ]; then
        nlmmap_say "$NLMMAP_PROGRAM: $lacks: $1"
        exit 2
    fi
}

# Runs apt-get as root. The only thing that anything here uses sudo for.
nlmmap_apt_get() {
    local options=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=2 -q)
    if [ "$(id -u)" = 0 ]; then
        DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get "${options[@]}" "$@"
    else
        sudo env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get "${options[@]}" "$@"
    fi
}

# sudo may want to ask for a password, which it cannot where nlmmap_step has
# put its output into a log.
nlmmap_apt_ready() {
    [ "$(id -u)" = 0 ] || sudo -v || {
        nlmmap_say "$NLMMAP_PROGRAM: packages have to be installed, and sudo does not let you${NLMMAP_INSTEAD:+: $NLMMAP_INSTEAD}"
        exit 2
    }
}

nlmmap_packages() {
    local set
    for set in "$@"; do
        case $set in
        build) echo bazel-bootstrap g++ make pkgconf libnl-3-dev libnl-genl-3-dev libnl-nf-3-dev libnl-route-3-dev libpcap-dev libcli11-dev libfmt-dev nlohmann-json3-dev googletest ;;
        kernel) echo make gcc libc6-dev kmod pahole patch xz-utils ;;
        kernel-source) echo bc bison flex libelf-dev ;;
        vm) echo qemu-system-x86 busybox-static cpio kmod ;;
        test) echo clang-19 clang-format-19 clang-tidy-19 libclang-rt-19-dev cmake conntrack iproute2 libnl-utils sparse shellcheck mandoc perl python3 python3-yaml tshark file zip xz-utils ;;
        *) nlmmap_die "nlmmap_packages: no set '$set'" ;;
        esac
    done | tr ' ' '\n' | sort -u
}

nlmmap_packages_missing() {
    local package
    for package in "$@"; do
        # shellcheck disable=SC2016
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# Rounds up to a time that one can say: "about 20 s", "about 2 min".
nlmmap_about() {
    if [ "$1" -lt 60 ]; then
        printf 'about %d s' $((($1 + 9) / 10 * 10))
    else
        printf 'about %d min' $((($1 + 59) / 60))
    fi
}

# Prints "MB-to-download MB-on-disk" for packages to be installed.
nlmmap_packages_size() {
    LC_ALL=C apt-get install -s --no-install-recommends "$@" >/dev/null || return 1
    LC_ALL=C apt-get install --no-install-recommends --print-uris -y "$@" | awk '
        function mb(n, unit) {
            gsub(",", "", n)
            return int(unit == "kB" ? n / 1000 : unit == "GB" ? n * 1000 : unit == "B" ? 0 : n) + 1
        }
        /^Need to get/ {
            # "Need to get 5,120 kB/64.1 MB of archives." or "… 64.1 MB of archives."
            split($5, word, "/")
            download = mb($4, word[1])
        }
        /^After this operation/ { disk = mb($4, $5) }
        END { print download + 0, disk + 0 }'
}

nlmmap_require_packages() {
    local missing size download disk
    mapfile -t missing < <(nlmmap_packages_missing "$@" | sort -u)
    [ "${#missing[@]}" -gt 0 ] || return 0
    nlmmap_apt_ready
    if ! size=$(nlmmap_packages_size "${missing[@]}" 2>/dev/null); then
        # apt does not know them yet, as on a machine whose lists are empty.
        nlmmap_step "apt-get update" nlmmap_apt_get update || return 1
        size=$(nlmmap_packages_size "${missing[@]}") || return 1
    fi
    read -r download disk <<<"$size"
    nlmmap_say "Missing packages: ${missing[*]}"
    nlmmap_say "They are $download MB to download and $disk MB on disk with what they need; $(nlmmap_about $((download / 10 + disk / 12 + 5)))."
    if ! nlmmap_step "apt-get install" nlmmap_apt_get install -y --no-install-recommends "${missing[@]}"; then
        # Lists that are out of date name versions that are gone.
        nlmmap_step "apt-get update" nlmmap_apt_get update || return 1
        nlmmap_step "apt-get install" nlmmap_apt_get install -y --no-install-recommends "${missing[@]}" || return 1
    fi
}
