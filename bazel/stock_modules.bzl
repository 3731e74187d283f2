# SPDX-License-Identifier: MIT
"""Modules of the stock kernels themselves, for guests that need more than the image has."""

load("@kernels//:defs.bzl", "KERNEL_HEADERS")

# A kernel that we build has everything built in, and no modules.
_CMD = """
tree=$$(realpath {headers}/../../..)
version=$$(basename {headers})
version=$${{version#linux-headers-}}
work=$$(mktemp -d "$${{TMPDIR:-/tmp}}/nlmmap-stock.XXXXXX")
trap 'rm -rf "$$work"' EXIT
mkdir "$$work/stock"
: >"$$work/stock/order"
if [ -e "$$tree/lib/modules/$$version/modules.dep" ]; then
    for module in {modules}; do
        modprobe -d "$$tree" -S "$$version" --show-depends "$$module" >"$$work/needed"
        while read -r verb path rest; do
            [ "$$verb" = insmod ] || continue
            file=$${{path##*/}}
            case $$file in
            *.xz) file=$${{file%.xz}}; xz -dc "$$path" >"$$work/stock/$$file" ;;
            *) cp "$$path" "$$work/stock/$$file" ;;
            esac
            grep -qx "$$file" "$$work/stock/order" || echo "$$file" >>"$$work/stock/order"
        done <"$$work/needed"
    done
fi
tar -C "$$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf $@ stock
"""

def nlmmap_stock_modules(name, modules):
    """For each series S: S/NAME.tar with stock/order and the modules, in order of loading.

    Args:
      name: see above.
      modules: names; what they depend on comes before them.
    """
    for series, headers in KERNEL_HEADERS.items():
        native.genrule(
            name = "%s_%s" % (name, series),
            testonly = True,
            srcs = ["@kernels//%s:stamp" % series],
            outs = ["%s/%s.tar" % (series, name)],
            cmd = _CMD.format(headers = headers, modules = " ".join(modules)),
            message = "Taking %s out of %s" % (" ".join(modules), series),
            tags = [
                "manual",
                "vm",
            ],
        )
