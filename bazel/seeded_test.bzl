# SPDX-License-Identifier: MIT
"""Tests of the tests: a fault is put into a module, and a guest has to find it."""

load("@kernels//:defs.bzl", "KERNEL_HEADERS")
load("//bazel:kernel_module.bzl", "build_module", "module_file")
load("//bazel:vm_test.bzl", "nlmmap_guest")

def nlmmap_seeded_test(
        name,
        patch,
        series,
        programs,
        expects,
        filter = "*",
        module = "//kernel-module:nlmmap",
        modules = [
            "//kernel-module:nlmmap",
            "//tests/guest/module:nlmmap_test",
        ],
        files = {},
        dies = False,
        leaks = False,
        seconds = 120,
        program_seconds = 60,
        accel = "",
        tags = []):
    """Passes if the guest's verdict is a failure, and what failed is what was to be expected.

    The module is built for one kernel from a copy with the patch in it, and the
    guest runs as any other. A guest that passes, one that fails otherwise, one that
    does not boot and one that does not end: each is a failure of this test.

    Args:
      name: the test's name.
      patch: the fault, relative to the repository (patch -p1). One that does not apply fails the build.
      series: the kernel that finds it.
      programs: as for nlmmap_vm_test; those that lead to the fault.
      expects: a regular expression (Python's) that is found in one failed case: in the line
        "PROGRAM CASE" or in the text below it, lines of the kernel's log in most cases.
      filter: the cases of GoogleTest programs to run, to save time.
      module: the module with the fault.
      modules: all modules, in order of loading.
      files: as for nlmmap_vm_test.
      dies: the guest may panic or hang, too; then `expects` is looked for on its console.
      leaks: look for leaks, too, which takes as long as all the rest.
      seconds: as for nlmmap_vm_test.
      program_seconds: as for nlmmap_vm_test.
      accel: as for nlmmap_vm_test.
      tags: more tags.
    """
    if series not in KERNEL_HEADERS:
        # tools/test --quick has the stock kernels alone.
        return
    label = Label(module)
    seeded = "%s_module/%s" % (name, label.name)
    build_module(
        name = name + "_module",
        module = label.name,
        out = seeded,
        package = label.package,
        series = series,
        sources = [module + "_sources"],
        patches = [patch],
        tags = ["manual"],
    )
    guest = nlmmap_guest(
        name = name,
        series = series,
        programs = programs,
        modules = {
            one: ":%s.ko" % seeded if one == module else module_file(one, series)
            for one in modules
        },
        parameters = {},
        files = files,
        seconds = seconds,
        program_seconds = program_seconds,
        accel = accel,
        filter = filter,
        leaks = leaks,
    )
    native.sh_test(
        name = name,
        srcs = ["//tests/vm:seeded_test.py"],
        args = ["$(location //tests/vm:vm_test.sh)"] + guest.args,
        data = ["//tests/vm:vm_test.sh"] + guest.data,
        env = {
            "NLMMAP_EXPECTS": expects.replace("$", "$$"),
            "NLMMAP_GUEST_DIES": "yes" if dies else "",
        },
        timeout = guest.timeout,
        tags = ["vm"] + tags,
    )
