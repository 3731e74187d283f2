# SPDX-License-Identifier: MIT
"""Kernel modules, built once for each kernel series of the matrix."""

load("@kernels//:defs.bzl", "KERNEL_HEADERS")
load("//bazel:matrix.bzl", "MATRIX")

# kbuild writes beside the sources, so it works in a copy of what is declared,
# laid out as in the repository. CONFIG_DEBUG_INFO is not stripped: a splat in
# a guest is worth more with line numbers than a small file.
_CMD = """
work=$$(mktemp -d "$${{TMPDIR:-/tmp}}/{name}-ko.XXXXXX")
trap 'rm -rf "$$work"' EXIT
cp -L --parents {sources} "$$work"
for patch in {patch}; do
    if ! (cd "$$work" && patch -p1 -F0 --no-backup-if-mismatch) <"$$patch" >"$$work/log" 2>&1; then
        echo "$$patch does not apply:" >&2
        cat "$$work/log" >&2
        exit 1
    fi
done
: >"$$work/extra.symvers"
for symvers in {symvers}; do
    cat "$$symvers" >>"$$work/extra.symvers"
done
if ! make -C '{headers}' M="$$work/{package}" KBUILD_EXTRA_SYMBOLS="$$work/extra.symvers" \\
    KCFLAGS="-Werror -ffile-prefix-map=$$work/=" {flags} modules >"$$work/log" 2>&1; then
    sed "s|$$work/||g" "$$work/log" >&2
    exit 1
fi
# A check that the compiler left out would find nothing.
if [ -n '{instrumented_by}' ] && ! grep -q '{instrumented_by}' "$$work/{package}/{name}.ko"; then
    echo "{name}.ko calls nothing that begins with {instrumented_by}: it is not instrumented" >&2
    exit 1
fi
cp "$$work/{package}/{name}.ko" $(location {out}.ko)
cp "$$work/{package}/Module.symvers" $(location {out}.symvers)
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
    native.filegroup(
        name = name + "_sources",
        srcs = srcs + extra,
        tags = ["kernel"],
        visibility = visibility,
    )
    for series in KERNEL_HEADERS:
        build_module(
            name = "%s_%s" % (name, series),
            module = name,
            out = "%s/%s" % (series, name),
            package = native.package_name(),
            series = series,
            sources = srcs + extra,
            symvers = [_file(dep, series, "symvers") for dep in deps],
            make_flags = make_flags,
            visibility = visibility,
        )
    native.filegroup(
        name = name,
        srcs = ["%s/%s.ko" % (series, name) for series in KERNEL_HEADERS],
        tags = ["kernel"],
        visibility = visibility,
    )

def build_module(
        name,
        module,
        out,
        package,
        series,
        sources,
        symvers = [],
        patches = [],
        make_flags = "",
        tags = [],
        visibility = None):
    """One module for one kernel.

    Args:
      name: the genrule's name.
      module: the module's name.
      out: makes OUT.ko and OUT.symvers.
      package: where the module's Kbuild lies.
      series: of the matrix.
      sources: labels of all that is needed.
      symvers: labels of the symbols of other modules.
      patches: labels of patches, relative to the repository, to apply to the copy that is built.
      make_flags: more arguments for make.
      tags: more tags.
      visibility: as everywhere.
    """
    kernel = MATRIX[series]
    native.genrule(
        name = name,
        srcs = sources + symvers + patches + ["@kernels//%s:stamp" % series],
        outs = [
            out + ".ko",
            out + ".symvers",
        ],
        cmd = _CMD.format(
            name = module,
            out = out,
            package = package,
            headers = KERNEL_HEADERS[series],
            flags = " ".join([kernel.make_flags, make_flags]),
            instrumented_by = kernel.instrumented_by,
            sources = " ".join(["$(locations %s)" % label for label in sources]),
            symvers = " ".join(["$(location %s)" % label for label in symvers]),
            patch = " ".join(["$(location %s)" % label for label in patches]),
        ),
        message = "Building %s.ko for %s" % (module, series),
        tags = ["kernel"] + tags,
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
