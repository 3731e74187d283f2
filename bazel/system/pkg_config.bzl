# SPDX-License-Identifier: MIT
"""A cc_library for a library which the system's package manager installed."""

def _pkg_config(ctx, option):
    done = ctx.execute(["pkg-config", option] + ctx.attr.modules)
    if done.return_code != 0:
        fail("pkg-config %s: %s" % (" ".join(ctx.attr.modules), done.stderr))
    return [flag for flag in done.stdout.strip().split(" ") if flag]

def _pkg_config_library_impl(ctx):
    includes = []
    if ctx.attr.subdirectory:
        # Headers that lie in a folder of /usr/include: pkg-config names no -I.
        prefix = "/usr/include/"
        ctx.symlink(prefix + ctx.attr.subdirectory, "include0/" + ctx.attr.subdirectory)
        includes.append("include0")
    else:
        for flag in _pkg_config(ctx, "--cflags-only-I"):
            includes.append("include%d" % len(includes))
            ctx.symlink(flag[2:], includes[-1])
    ctx.file("BUILD.bazel", """\
cc_library(
    name = %r,
    hdrs = glob(%r),
    defines = %r,
    includes = %r,
    linkopts = %r,
    visibility = ["//visibility:public"],
)
""" % (
        ctx.name,
        [path + "/**/*.h" for path in includes] + [path + "/**/*.hpp" for path in includes],
        ctx.attr.defines,
        includes,
        [] if ctx.attr.header_only else _pkg_config(ctx, "--libs"),
    ))

pkg_config_library = repository_rule(
    implementation = _pkg_config_library_impl,
    attrs = {
        "modules": attr.string_list(mandatory = True),
        "defines": attr.string_list(),
        "header_only": attr.bool(),
        "subdirectory": attr.string(),
    },
    configure = True,
    environ = ["PKG_CONFIG_PATH"],
    local = True,
)
