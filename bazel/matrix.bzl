# SPDX-License-Identifier: MIT
"""The kernels that everything is built for and booted on, oldest first.

Two are Debian's, two are built from Debian's source by tools/lib/debug_kernels.sh
with tests/kernels/*.config. What is here holds for any version of a series.
"""

def _kernel(
        checks = [],
        instrumented_by = "",
        make_flags = "",
        megabytes = 512,
        patience = 1,
        debug = False):
    """What tests have to know of one kernel.

    Args:
      checks: what it has to check by itself; each is a case of each guest, see tests/vm/checks.sh.
      instrumented_by: how the symbols begin that the compiler's checks call: every module has some.
      make_flags: more arguments for kbuild, for each of our modules.
      megabytes: a guest's memory.
      patience: how many times as long as on a stock kernel a guest may take.
      debug: whether it is one of those that we build.
    """
    return struct(
        checks = checks,
        debug = debug,
        instrumented_by = instrumented_by,
        make_flags = make_flags,
        megabytes = megabytes,
        patience = patience,
    )

MATRIX = {
    "6.1": _kernel(),
    "6.12": _kernel(),
    "6.12-debug": _kernel(
        checks = [
            "kasan",
            "lockdep",
            "rcu",
            "atomic_sleep",
            "kmemleak",
            "ubsan",
            "objects",
            "fault_injection",
            "kcov",
        ],
        debug = True,
        instrumented_by = "__asan_report_",
        # For the fuzzer: the compiler notes where a task has been, which is
        # read by whoever asks for it and costs others little.
        make_flags = "KCOV_INSTRUMENT=y",
        megabytes = 1024,
        patience = 5,
    ),
    "6.12-kcsan": _kernel(
        checks = [
            "kcsan",
            "fault_injection",
        ],
        debug = True,
        instrumented_by = "__tsan_",
        megabytes = 1024,
        patience = 5,
    ),
}
