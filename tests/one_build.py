#!/usr/bin/env python3
"""Names the dependencies that several commands would build with different features.

Each argument is a selection of packages, as Cargo's commands take it: "" for the default members,
"--workspace", "-p gatekey -p gatekey-oauth". Each command that selects other packages may ask for
other features of a dependency, and then builds it anew, with all that depends on it. The features
that a selection lacks belong into crates/workspace-hack/Cargo.toml.
"""

import subprocess
import sys
from collections import defaultdict


def features_of(selection):
    """The features of each dependency, by its name and version. One that is built both for
    the program and for a macro may have two sets of them."""
    tree = subprocess.run(
        ["cargo", "tree", *selection.split(), "--all-features", "--prefix", "none", "--format", "{p}|{f}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = defaultdict(set)
    for line in tree.splitlines():
        package, _, features = line.removesuffix(" (*)").partition("|")
        # A path in brackets: a package of the workspace, with features of its own.
        if "(/" not in package:
            found[package.removesuffix(" (proc-macro)")].add(frozenset(features.split(",")) - {""})
    return found


def main():
    selections = sys.argv[1:]
    of_selection = {selection: features_of(selection) for selection in selections}
    lacking = []
    for package in sorted(set().union(*of_selection.values())):
        sets = {
            selection: found[package] for selection, found in of_selection.items() if package in found
        }
        if len(set().union(*sets.values())) > max(len(found) for found in sets.values()):
            every = frozenset().union(*(features for found in sets.values() for features in found))
            for selection, found in sets.items():
                for features in found:
                    if features != every:
                        lacking.append(f"{package} lacks {sorted(every - features)} in {selection!r}")
    if lacking:
        print("\n".join(lacking), file=sys.stderr)
        sys.exit("these are built more than once: see crates/workspace-hack/Cargo.toml")
    print(f"{len(selections)} selections of packages share the builds of their dependencies")


main()
