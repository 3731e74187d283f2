# SPDX-License-Identifier: MIT
"""Kernel modules, built once for each kernel series of the matrix."""

load("@kernels//:defs.bzl", "KERNEL_HEADERS")

# kbuild writes beside the sources, so it works in a copy of what is declared,
# laid out as in the repository. CONFIG_DEBUG_INFO is not stripped: a splat in
# a guest is worth more with line numbers than a small file.
_CMD = """
work=$$(mktemp -d "$${{TMPDIR:-/tmp}}/{name}-ko.XXXXXX")
trap 'rm -rf "$$work"' EXIT
cp -L --parents {sources} "$$work"
: >"$$work/extra.symvers"
for symvers in {symvers}; do
    cat "$$symvers" >>"$$work/extra.symvers"
done
if ! make -C '{headers}' M="$$work/{package}" KBUILD_EXTRA_SYMBOLS="$$work/extra.symvers" \\
    KCFLAGS="-Werror -ffile-prefix-map=$$work/=" {flags} modules >"$$work/log" 2>&1; then
    sed "s|$$work/||g" "$$work/log" >&2
    exit 1
fi
cp "$$work/{package}/{name}.ko" $(location {series}/{name}.ko)
cp "$$work/{package}/Module.symvers" $(location {series}/{name}.symvers)
"""

def nlmmap_kernel_module(name, srcs, extra = [], deps = [], make_flags = "", visibility = None):
    """Builds S/name.ko and S/name.symvers for every series S of the matrix.

    Args:
      name: the module's name; also a filegroup of all series' modules.
      srcs: sources, with the Kbuild and Makefile that lie in this package.
      extra: files and filegroups of other packages that the sources include.
      deps: nlmmap_kernel_modules whose exported symbols this one uses.
      make_flags: more arguments for make, e.g. "W=1".
      visibility: as everywhere.
    """
    for series, headers in KERNEL_HEADERS.items():
        symvers = [_file(dep, series, "symvers") for dep in deps]
        sources = srcs + extra
        native.genrule(
            name = "%s_%s" % (name, series),
            srcs = sources + symvers + ["@kernels//%s:stamp" % series],
            outs = [
                "%s/%s.ko" % (series, name),
                "%s/%s.symvers" % (series, name),
            ],
            cmd = _CMD.format(
                name = name,
                package = native.package_name(),
                series = series,
                headers = headers,
                flags = make_flags,
                sources = " ".join(["$(locations %s)" % label for label in sources]),
                symvers = " ".join(["$(location %s)" % label for label in symvers]),
            ),
            message = "Building %s.ko for %s" % (name, series),
            tags = ["kernel"],
            visibility = visibility,
        )
    native.filegroup(
        name = name,
        srcs = ["%s/%s.ko" % (series, name) for series in KERNEL_HEADERS],
        tags = ["kernel"],
        visibility = visibility,
    )

def module_file(dep, series):
    """The label of a module's .ko for one series."""
    return _file(dep, series, "ko")

def _file(dep, series, suffix):
    label = Label(dep) if dep.startswith("//") else None
    package = "//" + label.package if label else ""
    module = label.name if label else dep.lstrip(":")
    return "%s:%s/%s.%s" % (package, series, module, suffix)
