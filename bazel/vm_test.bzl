# SPDX-License-Identifier: MIT
"""Tests that run inside a guest, once for each kernel series of the matrix."""

load("@kernels//:defs.bzl", "KERNEL_HEADERS")
load("//bazel:copts.bzl", "NLMMAP_COPTS")
load("//bazel:kernel_module.bzl", "module_file")

_INITRAMFS = """
. $(location //tools/lib:vm.sh)
work=$$(mktemp -d "$${{TMPDIR:-/tmp}}/nlmmap-order.XXXXXX")
trap 'rm -rf "$$work"' EXIT
echo 'PROGRAM_SECONDS={program_seconds}' >"$$work/conf"
: >"$$work/modules"
: >"$$work/tests"
set -- "$(location //tests/vm:init.sh)=/init" "$$work/conf=/etc/vm.conf" \\
    "$$work/modules=/modules/order" "$$work/tests=/tests/order"
for module in {modules}; do
    file=$${{module##*/}}
    set -- "$$@" "$$module=/modules/$$file"
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
      seconds: how long the guest may take.
      program_seconds: how long one program may take.
      accel: how QEMU emulates, "tcg,thread=multi" by default: a thread for each CPU.
      tags: more tags.
      series: the kernels to boot, all of the matrix by default.
    """
    for one in series or KERNEL_HEADERS.keys():
        kos = [module_file(module, one) for module in modules]
        native.genrule(
            name = "%s_%s_initramfs" % (name, one),
            testonly = True,
            srcs = ["//tests/vm:init.sh"] + kos + programs + files.keys(),
            outs = ["%s/%s.cpio" % (one, name)],
            cmd = _INITRAMFS.format(
                program_seconds = program_seconds,
                modules = " ".join(["$(location %s)" % ko for ko in kos]),
                parameters = "\n".join([
                    "    %s.ko) echo '%s.ko %s' ;;" % (module, module, values)
                    for module, values in parameters.items()
                ]),
                programs = " ".join(["$(locations %s)" % program for program in programs]),
                files = " ".join(["$(location %s)=%s" % pair for pair in files.items()]),
            ),
            message = "Making the guest's files for %s_%s" % (name, one),
            tags = [
                "manual",
                "vm",
            ],
            tools = ["//tools/lib:vm.sh"],
        )
        native.sh_test(
            name = "%s_%s" % (name, one),
            srcs = ["//tests/vm:vm_test.sh"],
            args = [
                "$(location //tools/lib:vm.sh)",
                "$(location //tests/vm:ktap_to_xml.py)",
                "$(location @kernels//%s:vmlinuz)" % one,
                "$(location :%s/%s.cpio)" % (one, name),
                str(seconds),
            ] + ([accel] if accel else []),
            data = [
                ":%s/%s.cpio" % (one, name),
                "//tests/vm:ktap_to_xml.py",
                "//tools/lib:vm.sh",
                "@kernels//%s:vmlinuz" % one,
            ],
            # Longer than the guest may take, so that the verdict is ours.
            timeout = "long" if seconds < 840 else "eternal",
            # Two guests at once on two cores: they sleep and boot much of their time.
            tags = ["vm"] + tags,
        )
