#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the test cases of one `bazel test`, those with cached results included.

Reads the build event file of the invocation (--build_event_json_file) and the
test.xml of each test that it names. Writes one line for each case that did not
pass, and appends `CONFIG PASSED FAILED SKIPPED` to a file of totals.
"""
import argparse
import json
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree


def local_path(uri):
    return urllib.parse.unquote(urllib.parse.urlparse(uri).path)


class Totals:
    def __init__(self, config):
        self.config = config
        self.passed = self.failed = self.skipped = 0

    def fail(self, what, log=""):
        self.failed += 1
        print(f"FAILED ({self.config}) {what}" + (f"; see {log}" if log else ""))

    def add_xml(self, label, path, status, log):
        """Adds the cases of one test run; its status has the last word."""
        before = self.failed
        seen = 0
        try:
            cases = list(ElementTree.parse(path).getroot().iter("testcase"))
        except (OSError, ElementTree.ParseError) as error:
            self.fail(f"{label}: no results: {error}", log)
            return
        for case in cases:
            seen += 1
            name = f"{label} {case.get('classname', '')}.{case.get('name', '')}"
            if case.find("failure") is not None or case.find("error") is not None:
                self.fail(name, log)
            elif (case.find("skipped") is not None or case.get("result") in ("skipped", "suppressed")
                  or case.get("status") in ("notrun", "skipped")):
                self.skipped += 1
                print(f"skipped ({self.config}) {name}")
            else:
                self.passed += 1
        if seen == 0:
            self.fail(f"{label}: it ran no test case", log)
        elif status != "PASSED" and self.failed == before:
            # A sanitizer's report at exit, a time-out, a crash after the last case.
            self.fail(f"{label}: {status}", log)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the name that the totals go by")
    parser.add_argument("--status", required=True, type=int, help="bazel's exit status")
    parser.add_argument("--totals", required=True, help="the file to append to")
    parser.add_argument("events")
    args = parser.parse_args()

    totals = Totals(args.config)
    wanted, seen = set(), set()
    try:
        with open(args.events, encoding="utf-8") as file:
            lines = file.readlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            totals.fail("bazel's list of events is cut off")
            break
        if "targetConfigured" in event["id"] and event.get("configured", {}).get("testSize"):
            wanted.add(event["id"]["targetConfigured"]["label"])
        if "testResult" in event["id"]:
            label = event["id"]["testResult"]["label"]
            result = event["testResult"]
            files = {output["name"]: local_path(output["uri"]) for output in result.get("testActionOutput", [])}
            seen.add(label)
            totals.add_xml(label, files.get("test.xml", ""), result["status"], files.get("test.log", ""))
    for label in sorted(wanted - seen):
        totals.fail(f"{label}: it was not built or not run")
    if args.status != 0 and totals.failed == 0:
        totals.fail(f"bazel's exit status is {args.status}")
    if totals.passed + totals.failed == 0:
        totals.fail("no test was run")
    with open(args.totals, "a", encoding="utf-8") as out:
        out.write(f"{args.config} {totals.passed} {totals.failed} {totals.skipped}\n")
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
