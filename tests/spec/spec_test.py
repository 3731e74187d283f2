#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The YAML spec of the protocol says what the wire header says.

Compares every attribute's number and type width, every message's number, every
flag's bit and the protocol number of Documentation/netlink/specs/nlmmap.yaml with
include/uapi/linux/nlmmap.h. Takes the paths of both; prints KTAP.
"""
import re
import sys

import yaml


def header_values(text):
    """Names to numbers of both enumerations, and the attributes' types by their comments."""
    text = re.sub(r"^ \* .*$", "", text, flags=re.M)
    numbers, types = {}, {}
    for body in re.findall(r"^enum \{(.*?)^\};", text, flags=re.M | re.S):
        value = 0
        for name, given, comment in re.findall(
            r"^\t(_*NLMMAP_\w+)[ \t]*(?:= (\d+))?,?[ \t]*(?:/\*\s*(\w+))?", body, flags=re.M
        ):
            value = int(given) if given else value
            numbers[name] = value
            types[name] = comment
            value += 1
    return numbers, types


def header_flags(text):
    """Names to bits of all flags that a request or an answer carries."""
    found = re.findall(
        r"^#define\s+NLMMAP_((?:SETUP|FEATURE|GROUP)_\w+)\s+\(1 << (\d+)\)", text, flags=re.M
    )
    return {name: int(bit) for name, bit in found}


def spec_flags(definitions):
    """The same of the spec; an entry without a value follows the one before."""
    flags = {}
    for definition in definitions:
        prefix = {"setup-flags": "SETUP", "features": "FEATURE", "group-flags": "GROUP"}[definition["name"]]
        bit = 0
        for entry in definition["entries"]:
            bit = entry.get("value", bit)
            flags[prefix + "_" + entry["name"].upper().replace("-", "_")] = bit
            bit += 1
    return flags


def main():
    spec_path, header_path = sys.argv[1:]
    with open(spec_path, encoding="utf-8") as spec_file:
        spec = yaml.safe_load(spec_file)
    with open(header_path, encoding="utf-8") as header_file:
        text = header_file.read()
    numbers, types = header_values(text)
    cases = []

    def case(name, good, detail=""):
        cases.append(good)
        print(f"{'ok' if good else 'not ok'} {len(cases)} - {name}" + ("" if good else f" # {detail}"))

    family = int(re.search(r"#define NETLINK_NLMMAP\s+(\d+)", text).group(1))
    case("protocol number", spec["protonum"] == family, f"{spec['protonum']} {family}")

    flags = header_flags(text)
    case("the header has flags of every kind", len({name.split("_")[0] for name in flags}) == 3, flags)
    case("flags", spec_flags(spec["definitions"]) == flags, f"{spec_flags(spec['definitions'])} {flags}")

    value, seen = 0, set()
    for attribute in spec["attribute-sets"][0]["attributes"]:
        value = attribute.get("value", value)
        name = "NLMMAP_A_" + attribute["name"].upper().replace("-", "_")
        seen.add(name)
        good = numbers.get(name) == value and (
            attribute["type"] == "pad" or types.get(name) == attribute["type"]
        )
        case(name, good, f"spec {value} {attribute['type']}, header {numbers.get(name)} {types.get(name)}")
        value += 1
    missing = {n for n in numbers if n.startswith("NLMMAP_A_")} - seen - {"NLMMAP_A_UNSPEC"}
    case("every attribute is in the spec", not missing, missing)

    seen = set()
    for operation in spec["operations"]["list"]:
        request = "NLMMAP_MSG_" + operation["name"].upper().replace("-", "_")
        for kind in ("do", "dump", "event"):
            if kind not in operation:
                continue
            value = operation[kind].get("request", operation).get("value")
            seen.add(request)
            case(f"{request} {kind}", numbers.get(request) == value, numbers.get(request))
            if "reply" in operation[kind]:
                reply = operation[kind]["reply"]["value"]
                names = [n for n, v in numbers.items() if n.startswith("NLMMAP_MSG_") and v == reply]
                seen.update(names)
                case(f"{request} {kind} reply", len(names) == 1, reply)
    missing = {n for n in numbers if n.startswith("NLMMAP_MSG_")} - seen - {"NLMMAP_MSG_PRODUCER_MIN"}
    case("every message is in the spec", not missing, missing)

    print(f"1..{len(cases)}")
    return 0 if all(cases) else 1


if __name__ == "__main__":
    sys.exit(main())
