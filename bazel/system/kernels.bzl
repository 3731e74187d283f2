# SPDX-License-Identifier: MIT
"""The kernels to build for and to boot, as tools/test and its kin unpacked them.

NLMMAP_KERNELS names them, "6.1=/path 6.12=/path", each path a tree with boot/
and usr/src/ of one version. Without it, the link series-S in the cache folder is
taken for each series S of the matrix; one that is missing makes its targets fail
with a sentence, so that nothing passes untested.
"""

load("//bazel:matrix.bzl", "MATRIX")

_MISSING = """\
genrule(
    name = "missing",
    outs = ["vmlinuz", "release"],
    cmd = "echo 'no kernel %s in %s: run tools/test once, it fetches it' >&2; exit 1",
)

filegroup(
    name = "stamp",
    srcs = ["release"],
)
"""

_PRESENT = """\
exports_files(["vmlinuz"])

filegroup(
    name = "stamp",
    srcs = glob(["stamp/**"]),
)
"""

def _one(ctx, series, tree):
    """Makes the package of one series; returns the headers' directory."""
    build = "package(default_visibility = [\"//visibility:public\"])\n\n"
    path = ctx.path(tree).realpath if ctx.path(tree).exists else None
    if not path:
        ctx.file(series + "/BUILD.bazel", build + _MISSING % (series, tree))
        return "/nonexistent"
    version = path.basename
    headers = "%s/usr/src/linux-headers-%s" % (path, version)
    image = "%s/boot/vmlinuz-%s" % (path, version)
    for needed in [headers + "/Makefile", image]:
        if not ctx.path(needed).exists:
            fail("%s is missing: remove %s and run tools/test" % (needed, path))
    # A new kernel means a rebuild: these differ with every version and configuration.
    ctx.symlink(headers + "/.config", series + "/stamp/config")
    ctx.symlink(headers + "/Module.symvers", series + "/stamp/Module.symvers")
    ctx.symlink(headers + "/include/generated/utsrelease.h", series + "/stamp/utsrelease.h")
    ctx.symlink(image, series + "/vmlinuz")
    ctx.file(series + "/BUILD.bazel", build + _PRESENT)
    return headers

def _kernels_impl(ctx):
    env = ctx.os.environ
    trees = {}
    if env.get("NLMMAP_KERNELS", ""):
        for entry in env["NLMMAP_KERNELS"].split(" "):
            series, _, tree = entry.partition("=")
            trees[series] = tree
    else:
        cache = env.get("XDG_CACHE_HOME", "") or env.get("HOME", "/nonexistent") + "/.cache"
        for series in MATRIX:
            trees[series] = "%s/nlmmap/kernels/series-%s" % (cache, series)
    headers = {series: _one(ctx, series, tree) for series, tree in trees.items()}
    ctx.file("defs.bzl", "KERNEL_HEADERS = %r\n" % headers)
    ctx.file("BUILD.bazel", "")

kernels = repository_rule(
    implementation = _kernels_impl,
    configure = True,
    environ = [
        "HOME",
        "NLMMAP_KERNELS",
        "XDG_CACHE_HOME",
    ],
    local = True,
)
