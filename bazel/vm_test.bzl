# SPDX-License-Identifier: MIT
"""Tests that run inside a guest, once for each kernel series of the matrix."""

load("@kernels//:defs.bzl", "KERNEL_HEADERS")
load("//bazel:copts.bzl", "NLMMAP_COPTS")
load("//bazel:kernel_module.bzl", "module_file")
load("//bazel:matrix.bzl", "MATRIX")

_INITRAMFS = """
. $(location //tools/lib:vm.sh)
work=$$(mktemp -d "$${{TMPDIR:-/tmp}}/nlmmap-order.XXXXXX")
trap 'rm -rf "$$work"' EXIT
cat >"$$work/conf" <<'END'
PROGRAM_SECONDS={program_seconds}
CHECKS='{checks}'
PATIENCE={patience}
FILTER='{filter}'
END
: >"$$work/modules"
: >"$$work/tests"
set -- "$(location //tests/vm:init.sh)=/init" "$(location //tests/vm:log.sh)=/etc/log.sh" \\
    "$(location //tests/vm:checks.sh)=/etc/checks.sh" "$$work/conf=/etc/vm.conf" \\
    "$$work/modules=/modules/order" "$$work/tests=/tests/order"
for module in {modules}; do
    file=$${{module##*/}}
    # Without what debuggers need, loading takes half the time.
    strip -g -o "$$work/$$file" "$$module"
    set -- "$$@" "$$work/$$file=/modules/$$file"
    case $$file in
{parameters}
    *) echo "$$file" ;;
    esac >>"$$work/modules"
done
for program in {programs}; do
    set -- "$$@" "$$program=/tests/$${{program##*/}}"
    echo "$${{program##*/}}" >>"$$work/tests"
done
for pair in {files}; do
    set -- "$$@" "$$pair"
done
nlmmap_make_initramfs $@ "$$@"
"""

def nlmmap_static_test(name, srcs, deps = [], copts = [], **kwargs):
    """A GoogleTest program, linked statically, for a guest: the host never runs it."""
    kwargs.setdefault("visibility", ["//tests:__subpackages__"])
    native.cc_test(
        name = name,
        srcs = srcs,
        copts = NLMMAP_COPTS + copts,
        features = ["fully_static_link"],
        linkstatic = True,
        tags = [
            "manual",
            "vm",
        ],
        deps = deps + ["@googletest//:gtest_main"],
        **kwargs
    )

def nlmmap_vm_test(
        name,
        programs,
        modules = [],
        parameters = {},
        files = {},
        seconds = 300,
        program_seconds = 120,
        accel = "",
        tags = [],
        series = None):
    """Boots each kernel with programs and modules; every case in the guest is a case.

    Args:
      name: prefix of the tests' names, name_6.1 and so on.
      programs: labels of static programs, scripts, or filegroups; run in this order.
      modules: labels of nlmmap_kernel_modules, loaded in this order.
      parameters: module's name to its parameters, "max_members=4".
      files: label to path in the guest, for whatever else is needed there.
      seconds: how long the guest may take on a stock kernel.
      program_seconds: how long one program may take there.
      accel: how QEMU emulates, "tcg,thread=multi" by default: a thread for each CPU.
      tags: more tags.
      series: the kernels to boot, all of the matrix by default.
    """
    for one in KERNEL_HEADERS.keys() if series == None else series:
        guest = nlmmap_guest(
            name = "%s_%s" % (name, one),
            series = one,
            programs = programs,
            modules = {module: module_file(module, one) for module in modules},
            parameters = parameters,
            files = files,
            seconds = seconds,
            program_seconds = program_seconds,
            accel = accel,
        )
        native.sh_test(
            name = "%s_%s" % (name, one),
            srcs = ["//tests/vm:vm_test.sh"],
            args = guest.args,
            data = guest.data,
            timeout = guest.timeout,
            # Two guests at once on two cores: they sleep and boot much of their time.
            tags = ["vm"] + tags,
        )

def nlmmap_guest(name, series, programs, modules, parameters, files, seconds, program_seconds, accel, filter = "*", leaks = True):
    """The files of a guest and the arguments for vm_test.sh; for rules that judge it in their own way.

    Args:
      name: NAME_initramfs and NAME.cpio are made.
      series: the one kernel to boot.
      programs: as for nlmmap_vm_test.
      modules: the module's label to the label of its file, in order of loading.
      parameters: as for nlmmap_vm_test.
      files: as for nlmmap_vm_test.
      seconds: as for nlmmap_vm_test.
      program_seconds: as for nlmmap_vm_test.
      accel: as for nlmmap_vm_test.
      filter: the cases of GoogleTest programs to run.
      leaks: look for leaks where the kernel can.
    Returns:
      a struct of args, data and timeout, for a sh_test.
    """
    kernel = MATRIX[series]
    kos = modules.values()
    native.genrule(
        name = name + "_initramfs",
        testonly = True,
        srcs = kos + programs + files.keys() + [
            "//tests/vm:checks.sh",
            "//tests/vm:init.sh",
            "//tests/vm:log.sh",
        ],
        outs = [name + ".cpio"],
        cmd = _INITRAMFS.format(
            program_seconds = program_seconds * kernel.patience,
            checks = " ".join([check for check in kernel.checks if leaks or check != "kmemleak"]),
            filter = filter,
            patience = kernel.patience,
            modules = " ".join(["$(location %s)" % ko for ko in kos]),
            parameters = "\n".join([
                "    %s.ko) echo '%s.ko %s' ;;" % (module, module, values)
                for module, values in parameters.items()
            ]),
            programs = " ".join(["$(locations %s)" % program for program in programs]),
            files = " ".join(["$(location %s)=%s" % pair for pair in files.items()]),
        ),
        message = "Making the guest's files for " + name,
        tags = [
            "manual",
            "vm",
        ],
        tools = ["//tools/lib:vm.sh"],
    )
    patient = seconds * kernel.patience
    return struct(
        args = [
            "$(location //tools/lib:vm.sh)",
            "$(location //tests/vm:ktap_to_xml.py)",
            "$(location @kernels//%s:vmlinuz)" % series,
            "$(location :%s.cpio)" % name,
            str(patient),
            str(kernel.megabytes),
        ] + ([accel] if accel else []),
        data = [
            ":%s.cpio" % name,
            "//tests/vm:ktap_to_xml.py",
            "//tools/lib:vm.sh",
            "@kernels//%s:vmlinuz" % series,
        ],
        # Longer than the guest may take, so that the verdict is ours.
        timeout = "long" if patient < 840 else "eternal",
    )
