# SPDX-License-Identifier: MIT
"""Fuzzers of what user space parses, and the proof that each finds something."""

load("//bazel:copts.bzl", "NLMMAP_COPTS")

_PATCH = """
work=$$(mktemp -d "$${{TMPDIR:-/tmp}}/nlmmap-fault.XXXXXX")
trap 'rm -rf "$$work"' EXIT
cp -L --parents $(location {file}) "$$work"
chmod -R u+w "$$work"
if ! patch -d "$$work" -p1 --fuzz=0 --no-backup-if-mismatch -s <$(location {patch}); then
    echo "{patch} does not apply to {file} any more" >&2
    exit 1
fi
cp "$$work"/$(location {file}) $@
"""

def _target(name, source, deps, tags = []):
    native.cc_library(
        name = name,
        testonly = True,
        srcs = [source + ".cc"],
        copts = NLMMAP_COPTS,
        # What is in it is called by libFuzzer, or by replay.cc.
        alwayslink = True,
        tags = tags,
        deps = deps + [":target"],
    )

def nlmmap_framing_fuzzer(name, deps, runs, faulty, max_len, fault_deps = None):
    """A fuzzer NAME.cc with its corpus in //tests/fuzz:corpus/NAME.

    Makes NAME_replay, an ordinary test that carries the corpus out; and for
    --config=fuzz alone, tagged manual, NAME_fuzz, which also looks for new inputs,
    and NAME_finds_its_fault, which has to fail with faults/NAME.patch applied.

    Args:
      name: of the source file.
      deps: what it tests.
      runs: how many inputs to try, so that it takes some ten seconds.
      faulty: the label of the file that the patch is for.
      max_len: the longest input, bytes.
      fault_deps: in place of deps, where the file is a header.
    """
    corpus = "//tests/fuzz:%s_corpus" % name
    _target(name + "_target", name, deps)
    native.cc_test(
        name = name + "_replay",
        size = "small",
        srcs = ["replay.cc"],
        args = ["$(rootpaths %s)" % corpus],
        copts = NLMMAP_COPTS,
        data = [corpus],
        deps = [
            ":%s_target" % name,
            ":target",
        ],
    )

    patched = "faulty_%s/%s" % (name, Label(faulty).name)
    native.genrule(
        name = name + "_fault",
        srcs = [
            faulty,
            "faults/%s.patch" % name,
        ],
        outs = [patched],
        cmd = _PATCH.format(file = faulty, patch = "faults/%s.patch" % name),
        tags = ["manual"],
    )
    if patched.endswith(".hpp"):
        native.cc_library(
            name = name + "_faulty_header",
            testonly = True,
            hdrs = [patched],
            strip_include_prefix = "faulty_%s/include" % name,
            tags = ["manual"],
        )
        _target(name + "_faulty_target", name, fault_deps + [":%s_faulty_header" % name], ["manual"])
        faulty_srcs, faulty_deps = [], [":%s_faulty_target" % name]
    else:
        # What is given as a source takes the place of the library's own.
        faulty_srcs, faulty_deps = [patched], deps + [":%s_target" % name]
    for kind, kind_srcs, kind_deps in [
        ("libfuzzer", [], [":%s_target" % name]),
        ("faulty", faulty_srcs, faulty_deps),
    ]:
        native.cc_binary(
            name = "%s_%s" % (name, kind),
            testonly = True,
            srcs = kind_srcs,
            copts = NLMMAP_COPTS,
            linkopts = ["-fsanitize=fuzzer"],
            linkstatic = True,
            tags = ["manual"],
            deps = kind_deps,
        )
    for test, program in [
        ("fuzz", "libfuzzer"),
        ("finds_its_fault", "faulty"),
    ]:
        native.sh_test(
            name = "%s_%s" % (name, test),
            size = "medium",
            srcs = ["fuzz_test.sh"],
            args = [
                "$(rootpath :%s_%s)" % (name, program),
                test,
                str(runs),
                str(max_len),
                "$(rootpaths %s)" % corpus,
            ],
            data = [
                corpus,
                ":%s_%s" % (name, program),
            ],
            tags = ["manual"],
        )
