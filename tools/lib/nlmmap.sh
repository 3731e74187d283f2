# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What tools/test, tools/demo and tools/bench share; see README.md in this
# folder for each function. Source it with `set -eu`.

NLMMAP_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
NLMMAP_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/nlmmap
NLMMAP_PROGRAM=$(basename "$0")
NLMMAP_LOGS=$NLMMAP_CACHE/logs/$NLMMAP_PROGRAM
export HOME NLMMAP_ROOT NLMMAP_CACHE
# depmod, modprobe and their like are in no ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

# shellcheck source=tools/lib/progress.sh
. "$NLMMAP_ROOT/tools/lib/progress.sh"
# shellcheck source=tools/lib/packages.sh
. "$NLMMAP_ROOT/tools/lib/packages.sh"
# shellcheck source=tools/lib/kernels.sh
. "$NLMMAP_ROOT/tools/lib/kernels.sh"
# shellcheck source=tools/lib/debug_kernels.sh
. "$NLMMAP_ROOT/tools/lib/debug_kernels.sh"
# shellcheck source=tools/lib/build.sh
. "$NLMMAP_ROOT/tools/lib/build.sh"
# shellcheck source=tools/lib/vm.sh
. "$NLMMAP_ROOT/tools/lib/vm.sh"

case $NLMMAP_CACHE in
*[[:space:]:]*) nlmmap_die "the cache folder '$NLMMAP_CACHE' has a blank or a colon in its name, which kernel builds cannot take: set XDG_CACHE_HOME" ;;
esac
# Without a cache folder little works, but nlmmap_platform and -h still do.
mkdir -p "$NLMMAP_LOGS" 2>/dev/null || true
