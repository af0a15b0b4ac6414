#!/usr/bin/env python3
"""Checks the dependencies against deny.toml: licences, banned crates, wildcards, sources.

cargo-deny checks the same and advisories too, and takes minutes to build; it runs in
.github/workflows/ci.yml. This reads the same file, so that the gate has it at once.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def allows(expression, allowed):
    """Whether the licences that are allowed satisfy an SPDX expression."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        found = both()
        while words and words[0] == "OR":
            words.pop(0)
            found = both() or found
        return found

    def both():
        found = one()
        while words and words[0] == "AND":
            words.pop(0)
            found = one() and found
        return found

    def one():
        word = words.pop(0)
        if word == "(":
            found = either()
            words.pop(0)
            return found
        if words and words[0] == "WITH":
            word = f"{word} WITH {words[1]}"
            del words[:2]
        return word in allowed

    return either()


def problems_of(metadata, rules):
    packages = {package["id"]: package for package in metadata["packages"]}
    used_by = {}
    for node in metadata["resolve"]["nodes"]:
        for dependency in node["dependencies"]:
            used_by.setdefault(dependency, set()).add(packages[node["id"]]["name"])
    allowed = set(rules["licenses"]["allow"])
    bans = {ban["crate"]: set(ban.get("wrappers", [])) for ban in rules["bans"]["deny"]}
    for package in packages.values():
        name = f"{package['name']} {package['version']}"
        if not allows(package["license"] or "none", allowed):
            yield f"{name}: its licence is {package['license']}"
        if package["source"] not in (None, REGISTRY):
            yield f"{name}: it comes from {package['source']}"
        if package["name"] in bans:
            others = used_by.get(package["id"], set()) - bans[package["name"]]
            if others or not bans[package["name"]]:
                yield f"{name}: it is banned, and used by {', '.join(sorted(others))}"
        if package["source"] is None:
            for dependency in package["dependencies"]:
                if dependency["req"] == "*" and not dependency.get("path"):
                    yield f"{name}: it takes any version of {dependency['name']}"


def main():
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout)
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    problems = list(problems_of(metadata, rules))
    if problems:
        sys.exit("\n".join(problems))
    print(f"deny.toml allows all of {len(metadata['packages'])} packages")


main()
