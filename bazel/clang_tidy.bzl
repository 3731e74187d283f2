# SPDX-License-Identifier: MIT
"""clang-tidy over the C++ sources of targets, cached like any other action.

    bazel build --config=tidy //libnlmmap/...
"""

def _sources(ctx):
    return [
        file
        for file in getattr(ctx.rule.files, "srcs", [])
        if file.is_source and file.extension == "cc"
    ]

def _clang_tidy_impl(target, ctx):
    if ctx.label.workspace_name or not ctx.rule.kind.startswith("cc_"):
        return []
    infos = [dep[CcInfo] for dep in getattr(ctx.rule.attr, "deps", []) if CcInfo in dep]
    if CcInfo in target:
        infos.append(target[CcInfo])
    context = cc_common.merge_cc_infos(cc_infos = infos).compilation_context
    flags = ["-std=c++20"] + [flag for flag in getattr(ctx.rule.attr, "copts", []) if flag != "-Werror"]
    flags += ["-D" + define for define in context.defines.to_list() + context.local_defines.to_list()]
    flags += ["-I" + path for path in context.includes.to_list()]
    for path in context.quote_includes.to_list():
        flags += ["-iquote", path]
    for path in context.system_includes.to_list():
        flags += ["-isystem", path]

    reports = []
    for source in _sources(ctx):
        report = ctx.actions.declare_file("%s.%s.tidy" % (ctx.label.name, source.basename))
        ctx.actions.run_shell(
            outputs = [report],
            inputs = depset(
                getattr(ctx.rule.files, "srcs", []) + getattr(ctx.rule.files, "hdrs", []) + [ctx.file._config],
                transitive = [context.headers],
            ),
            arguments = [report.path, source.path] + flags,
            # It prints counts of what it left out, so only a failure is shown.
            command = """
report=$1 source=$2
shift 2
clang-tidy-19 --quiet "$source" -- "$@" >"$report" 2>&1 || { cat "$report"; exit 1; }
""",
            mnemonic = "ClangTidy",
            progress_message = "clang-tidy " + source.short_path,
            use_default_shell_env = True,
        )
        reports.append(report)
    return [OutputGroupInfo(clang_tidy = depset(reports))]

clang_tidy = aspect(
    implementation = _clang_tidy_impl,
    attrs = {"_config": attr.label(
        allow_single_file = True,
        default = "//:.clang-tidy",
    )},
)
