#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Judges what a guest wrote to its second serial port.

Prints what failed, writes a JUnit file with every case, and exits 0 only if
the last line is `pass N`, N is the number of cases, none of them failed, at
least one is a program's, and the guest then ended by itself and in peace.
"""
import argparse
import re
import sys
from xml.sax.saxutils import escape, quoteattr

# Cases that the guest's init reports by itself.
OWN = ("modules", "kernel")

# A line of the kernel's own on its console, with its time.
FAULT = re.compile(r"^\[ *[0-9]+\.[0-9]+\].*(Kernel panic|BUG: |Oops|general protection)")

# What init.sh prints there when its own scans are done.
VERDICT_IS_WRITTEN = "=== the verdict is written"

RESULT = re.compile(r"^(ok|not ok) (\d+) (\S+) (.*?)(?: # (.*))?$")


class Case:
    def __init__(self, program, name, failure="", skipped="", seconds=0.0):
        self.program = program
        self.name = name
        self.failure = failure
        self.skipped = skipped
        self.seconds = seconds


def parse(lines):
    """The cases, and a sentence if the verdict is missing or does not fit."""
    cases, notes, seconds, plan, verdict = [], [], 0.0, None, None
    for line in lines:
        match = RESULT.match(line)
        if match:
            outcome, number, program, name, directive = match.groups()
            text = "\n".join(notes)
            case = Case(program, name, seconds=seconds)
            if outcome == "not ok":
                case.failure = "\n".join(part for part in (directive, text) if part) or "failed"
            elif directive and directive.startswith("SKIP"):
                case.skipped = text or directive
            if int(number) != len(cases) + 1:
                return cases, f"case {number} follows case {len(cases)}: lines are missing"
            cases.append(case)
            notes, seconds = [], 0.0
        elif line.startswith("# time "):
            seconds = int(line.split()[2]) / 1000
        elif line.startswith("# program "):
            notes = []
        elif line.startswith("#"):
            notes.append(line[2:])
        elif line.startswith("1.."):
            plan = int(line[3:])
        elif line and line != "KTAP version 1":
            verdict = line
    failed = sum(1 for case in cases if case.failure)
    if verdict is None:
        return cases, "the guest wrote no verdict"
    if plan != len(cases):
        return cases, f"the guest planned {plan} cases and reported {len(cases)}"
    if verdict != lines[-1] or verdict != (f"pass {plan}" if not failed else f"fail {failed} of {plan}"):
        return cases, f"the verdict '{verdict}' is not what the cases say"
    if all(case.program in OWN for case in cases):
        return cases, "the guest ran no program"
    return cases, ""


def late_fault(console):
    """What the kernel said after the verdict, which the guest's own log scan is before."""
    if VERDICT_IS_WRITTEN in console:
        console = console[len(console) - console[::-1].index(VERDICT_IS_WRITTEN):]
    for line in console:
        if FAULT.match(line):
            return f"the console has: {line}"
    return ""


# What XML 1.0 cannot hold.
UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def write_xml(path, suite, cases):
    with open(path, "w", encoding="utf-8") as out:
        failures = sum(1 for case in cases if case.failure)
        skipped = sum(1 for case in cases if case.skipped)
        out.write('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n')
        out.write(f'<testsuite name={quoteattr(suite)} tests="{len(cases)}" '
                  f'failures="{failures}" skipped="{skipped}" errors="0">\n')
        for case in cases:
            group, _, name = case.name.rpartition(".")
            group = case.program + ("." + group if group else "")
            out.write(f'<testcase classname={quoteattr(group)} name={quoteattr(name)} time="{case.seconds}">')
            if case.failure:
                text = UNPRINTABLE.sub("?", case.failure)
                out.write(f"<failure message={quoteattr(text.splitlines()[0])}>{escape(text)}</failure>")
            elif case.skipped:
                out.write("<skipped/>")
            out.write("</testcase>\n")
        out.write("</testsuite>\n</testsuites>\n")


def read_lines(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\r\n") for line in file]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", required=True)
    parser.add_argument("--xml", required=True)
    parser.add_argument("--ended", required=True, help="how the guest came to its end, a sentence")
    parser.add_argument("--status", required=True, type=int, help="0 if the guest ended by itself")
    parser.add_argument("verdict")
    parser.add_argument("console")
    args = parser.parse_args()

    cases, problem = parse(read_lines(args.verdict))
    if problem:
        cases.append(Case("guest", "verdict", failure=f"{problem}; {args.ended}"))
    elif args.status != 0:
        cases.append(Case("guest", "end", failure=f"after its verdict: {args.ended}"))
    fault = late_fault(read_lines(args.console))
    if fault and not problem:
        cases.append(Case("guest", "console", failure=fault))
    write_xml(args.xml, args.suite, cases)
    for case in cases:
        if case.failure:
            print(f"FAILED {case.program} {case.name}\n    " + case.failure.replace("\n", "\n    "))
    failed = sum(1 for case in cases if case.failure)
    skipped = sum(1 for case in cases if case.skipped)
    print(f"{len(cases) - failed - skipped} passed, {failed} failed, {skipped} skipped in the guest")
    if failed:
        print("The end of the guest's console:")
        print("\n".join("    " + line for line in read_lines(args.console)[-60:]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
