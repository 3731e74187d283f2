# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# tools/demo --host: the running kernel. Sourced by tools/demo.

# The modules that this run loaded, the last one first.
host_loaded=

# Exits 2 with the reason where modules of one's own cannot be loaded, or where
# the demo would not see what it wants to see.
host_refuse() {
    local release reason='' lockdown=/sys/kernel/security/lockdown module
    release=$(uname -r)
    if [ "$(id -u)" != 0 ]; then
        reason="it needs root: sudo tools/demo --host"
    elif [ ! -e /proc/modules ]; then
        reason="this kernel takes no modules"
    elif ! host_has_capability 16; then
        reason="this process has no CAP_SYS_MODULE (a container?)"
    elif [ "$(readlink /proc/self/ns/pid)" != "pid:[4026531836]" ]; then
        # The number of the initial one, in every kernel.
        reason="this is not the initial PID namespace (a container?)"
    elif [ "$(cat /proc/sys/kernel/modules_disabled 2>/dev/null)" = 1 ]; then
        reason="loading modules is disabled until the next boot (kernel.modules_disabled)"
    elif [ -r "$lockdown" ] && ! grep -qF '[none]' "$lockdown"; then
        reason="the kernel is locked down ($(cat "$lockdown")): it takes signed modules alone"
    elif [ "$(cat /sys/module/module/parameters/sig_enforce 2>/dev/null)" = Y ]; then
        reason="the kernel takes signed modules alone (module.sig_enforce)"
    elif [ ! -e "/lib/modules/$release/build/Makefile" ]; then
        reason="there are no headers for the running kernel in /lib/modules/$release/build: apt-get install linux-headers-$release"
    fi
    for module in nlmmap process_events; do
        if [ -z "$reason" ] && grep -q "^$module " /proc/modules; then
            reason="$module is loaded already, and what was there before stays: rmmod it first"
        fi
    done
    [ -n "$reason" ] || return 0
    nlmmap_say "demo: --host cannot run here: $reason. Without --host it runs in QEMU."
    exit 2
}

# Whether this process has the capability of that number.
host_has_capability() {
    local mask
    mask=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
    [ $((16#$mask >> $1 & 1)) = 1 ]
}

# Builds both modules for the running kernel into folder $1.
host_build() {
    local headers
    headers=/lib/modules/$(uname -r)/build
    nlmmap_step "Building nlmmap.ko for $(uname -r)" nlmmap_build_module "$headers" kernel-module "$1"
    nlmmap_step "Building process_events.ko" nlmmap_build_module "$headers" examples/process_events "$1" "$1/nlmmap.symvers"
}

host_load() {
    local module
    for module in nlmmap process_events; do
        insmod "$1/$module.ko" || nlmmap_die "insmod $module.ko failed; 'dmesg | tail' says why"
        host_loaded="$module $host_loaded"
        nlmmap_say "Loaded $module.ko."
    done
}

# Unloads what host_load loaded. A module may be in use for a moment after the
# last socket was closed.
host_undo() {
    local module left='' tries
    # Left behind only if the program was killed.
    if [ -n "$host_loaded" ] && [ -d /sys/kernel/tracing/instances/nlmmap_demo ]; then
        rmdir /sys/kernel/tracing/instances/nlmmap_demo || true
    fi
    for module in $host_loaded; do
        for tries in 1 2 3 4 5 6 7 8 9 10; do
            if rmmod "$module" 2>/dev/null; then
                nlmmap_say "Unloaded $module.ko."
                continue 2
            fi
            sleep 0.5
        done
        nlmmap_say "demo: cannot unload $module after $tries tries; unload it with: rmmod $module"
        left="$left$module "
    done
    host_loaded=$left
}
