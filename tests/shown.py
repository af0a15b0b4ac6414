#!/usr/bin/env python3
"""Fails for each public function or method that no example shows.

The functions are those of docs/public_api.txt. An example is Rust that is compiled: a code
block of a doc comment in src/, of README.md or of docs/*.md, or a program of examples/.
A method is shown by a call of its name, a function by its name with its type or, if it
has none, by a call; what a user may implement, by an implementation, too.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUNCTION = re.compile(r"(\S+)  ((?:pub |const |async )*fn (\w+).*)")
# What follows the fence of a block that rustdoc compiles.
COMPILED = {"", "rust", "no_run", "should_panic"}


def blocks(text):
    """The code of the blocks that rustdoc compiles."""
    inside, compiled, taken = False, False, []
    for line in text.splitlines():
        fence = re.match(r"\s*```(.*)", line)
        if fence:
            inside = not inside
            compiled = inside and set(re.split(r"[\s,]+", fence.group(1).strip())) <= COMPILED
        elif compiled:
            taken.append(line)
    return "\n".join(taken)


def doc_comments(path):
    # A fence that stands in an attribute is for the builds that have the feature.
    comment = re.compile(r'\s*(?://[/!] ?|#!?\[cfg_attr\(feature.* doc = "(?=```))(.*?)(?:"\)\])?$')
    lines = (comment.match(line) for line in path.read_text().splitlines())
    return blocks("\n".join(line.group(1) if line else "" for line in lines))


def examples():
    for path in (ROOT / "src").rglob("*.rs"):
        yield doc_comments(path)
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        yield blocks(path.read_text())
    for path in (ROOT / "examples").rglob("*.rs"):
        yield path.read_text()


def is_shown(path, declared, name, text):
    within = path.split("::")[-2]
    if within[0].islower():
        shown = rf"\b{name}\("
    elif re.search(r"\(\s*&?(?:'\w+ )?(?:mut )?self\b", declared):
        shown = rf"(?:\.|::){name}\b"
    else:
        shown = rf"\b(?:{within}|Self)(?:::<[^>]*>)?::{name}\b"
    if not declared.startswith("pub"):
        shown += rf"|\bfn {name}\b"
    return re.search(shown, text)


def main():
    text = re.sub(r"//[^\n]*", "", "\n".join(examples()))
    api = (ROOT / "docs" / "public_api.txt").read_text()
    functions = FUNCTION.findall(api)
    missing = [path for path, declared, name in functions if not is_shown(path, declared, name, text)]
    if missing:
        sys.exit("no example shows these:\n" + "\n".join(missing))
    print(f"{len(functions)} functions and methods, each in an example")


main()
