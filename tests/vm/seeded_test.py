#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boots a guest whose module has a fault in it, and passes if the fault was found.

seeded_test.py VM_TEST ARGUMENT…: runs `VM_TEST ARGUMENT…` (vm_test.sh), and reads
which cases failed. NLMMAP_EXPECTS is what has to be found in one of them, a
regular expression over "PROGRAM CASE" and the text of the failure. A guest that
came to no verdict proves nothing, unless NLMMAP_GUEST_DIES is `yes`: then it is
the console where the expression has to be found.
"""
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import escape, quoteattr


def failed_cases(path):
    """(class, "PROGRAM CASE" and the text below it) of each case that failed."""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        failure = case.find("failure")
        if failure is not None:
            program, _, group = case.get("classname").partition(".")
            name = f"{group}.{case.get('name')}" if group else case.get("name")
            yield case.get("classname"), f"{program} {name}\n{failure.text}"


def judge(expects, may_die, status, cases, console):
    """Empty if the fault was found, else why not."""
    if status == 0:
        return "the guest passed: nothing in it found the fault"
    dead = [text for group, text in cases if group == "guest"]
    found = [text for group, text in cases if group != "guest" and expects.search(text)]
    if dead and not may_die:
        return "the guest came to no proper end, which proves nothing: " + dead[0]
    if found or (dead and may_die and expects.search(console)):
        return ""
    return "the guest failed otherwise: no failed case has /" + expects.pattern + "/"


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def main():
    expects = re.compile(os.environ["NLMMAP_EXPECTS"], re.MULTILINE)
    may_die = os.environ.get("NLMMAP_GUEST_DIES") == "yes"
    out = os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR") or tempfile.mkdtemp()
    results = os.path.join(out, "guest.xml")
    run = subprocess.run(sys.argv[1:], env={**os.environ, "XML_OUTPUT_FILE": results,
                                            "TEST_UNDECLARED_OUTPUTS_DIR": out}, check=False)
    try:
        cases = list(failed_cases(results))
    except (OSError, ElementTree.ParseError) as error:
        cases, problem = [], f"there are no results of the guest: {error}"
    else:
        problem = judge(expects, may_die, run.returncode, cases, read(os.path.join(out, "console.log")))
    name = os.environ.get("TEST_TARGET", "seeded").rpartition(":")[2]
    with open(os.environ.get("XML_OUTPUT_FILE") or os.devnull, "w", encoding="utf-8") as xml:
        failure = f"<failure message={quoteattr(problem.splitlines()[0])}>{escape(problem)}</failure>" if problem else ""
        xml.write('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>'
                  f'<testsuite name="seeded" tests="1" failures="{1 if problem else 0}" errors="0">\n'
                  f'<testcase classname="Seeded" name={quoteattr(name)} time="0">{failure}</testcase>\n'
                  '</testsuite></testsuites>\n')
    print(f"FAILED: {problem}" if problem else f"the fault was found, as it should be: /{expects.pattern}/")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
