#!/usr/bin/env python3
"""Compares the public interface with docs/public_api.txt.

    tests/public_api.py             fails where they differ, and shows how
    tests/public_api.py --write     writes the file anew

Each line is an item: its path, and how it is declared. What is listed comes from
rustdoc's JSON; how it is declared, from the source. RUSTC_BOOTSTRAP lets the rustdoc of
the compiler that everything else is built with write that JSON.
"""

import difflib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "docs" / "public_api.txt"
TARGET = ROOT / "target"
# What of the traits that the compiler implements by itself a user relies on.
AUTO = {"Send", "Sync"}
UNSTABLE = {"StructuralPartialEq"}


def rustdoc():
    # For rustdoc alone: a build script that sees the variable takes the compiler for a
    # nightly one, and builds another crate.
    wrapper = TARGET / "rustdoc_json"
    TARGET.mkdir(exist_ok=True)
    wrapper.write_text('#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n')
    wrapper.chmod(0o755)
    env = dict(os.environ, RUSTDOC=str(wrapper), CARGO_TARGET_DIR=str(TARGET))
    env["RUSTDOCFLAGS"] = "-Z unstable-options --output-format json --cap-lints allow"
    # workspace-hack: on the dependencies that the gate has built for the documentation.
    packages = ["--package", "gatekey", "--package", "workspace-hack"]
    command = ["cargo", "doc", "--quiet", *packages, "--lib", "--no-deps", "--all-features"]
    subprocess.run(command, cwd=ROOT, env=env, check=True)
    return json.loads((TARGET / "doc" / "gatekey.json").read_text())


def declared(item):
    """The item's declaration, on one line: from its place in the source, up to its body."""
    span = item["span"]
    if not span or not span["filename"].startswith("src/"):
        return ""
    lines = (ROOT / span["filename"]).read_text().splitlines()
    (first, column), (last, end) = span["begin"], span["end"]
    taken = lines[first - 1:last]
    taken[-1] = taken[-1][:end]
    taken[0] = taken[0][max(column - 1, 0):]
    text = re.sub(r"\s+", " ", " ".join(line.split("//")[0] for line in taken))
    bare = re.sub(r"#\[[^\]]*\] ?", "", text)
    if bare != text:
        # Attributes of a variant's fields, with the lines that they made.
        text = bare.replace("( ", "(").replace(", )", ")")
    depth = 0
    is_tuple = next(iter(item["inner"])) == "struct"
    for at, letter in enumerate(text):
        if letter in ";{=" and depth == 0 and text[at:at + 2] != "=>":
            # A constant's type stands before its value.
            return text[:at].strip()
        if letter == "(" and depth == 0 and is_tuple:
            return text[:at].strip()
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
    return text.strip().rstrip(",")


def trait_name(impl):
    trait = impl["trait"]
    return trait["path"] + arguments(trait.get("args"))


def arguments(args):
    """The generic arguments of a trait, shortly: enough to tell two of them apart."""
    if not args or "angle_bracketed" not in args:
        return ""
    shown = [kind(arg.get("type", arg)) for arg in args["angle_bracketed"]["args"]]
    return f"<{', '.join(shown)}>" if shown else ""


def kind(ty):
    if isinstance(ty, str):
        return ty
    ((name, inner),) = ty.items()
    match name:
        case "resolved_path":
            return inner["path"] + arguments(inner.get("args"))
        case "borrowed_ref":
            return f"&{'mut ' if inner['is_mutable'] else ''}{kind(inner['type'])}"
        case "slice":
            return f"[{kind(inner)}]"
        case "array":
            return f"[{kind(inner['type'])}; {inner['len']}]"
        case "tuple":
            return f"({', '.join(map(kind, inner))})"
        case "qualified_path":
            return f"{kind(inner['self_type'])}::{inner['name']}"
        case "primitive" | "generic" | "lifetime":
            return inner
    return name


def walk(index, item, path, lines):
    (sort, inner), = item["inner"].items()
    get = lambda ids: [index[str(each)] for each in ids if each is not None and str(each) in index]
    hidden = any("doc(hidden)" in str(attribute) for attribute in item["attrs"])
    if hidden:
        return
    if sort == "use":
        target = index.get(str(inner["id"]))
        name = inner["name"]
        if target is None:
            lines.add(f"{path}::{name}  use {inner['source']}")
        elif inner["is_glob"]:
            for child in get(target["inner"]["module"]["items"]):
                walk(index, child, path, lines)
        else:
            walk(index, dict(target, name=name), path, lines)
        return
    path = f"{path}::{item['name']}" if path else item["name"]
    if sort == "module":
        lines.add(f"{path}  mod")
        for child in get(inner["items"]):
            walk(index, child, path, lines)
        return
    exhaustive = "  #[non_exhaustive]" if "non_exhaustive" in str(item["attrs"]) else ""
    lines.add(f"{path}  {declared(item) or sort}{exhaustive}")
    children = []
    match sort:
        case "struct":
            plain = inner["kind"]
            if isinstance(plain, dict):
                fields = plain.get("plain", {}).get("fields") or plain.get("tuple") or []
                children = get(fields)
        case "enum":
            children = get(inner["variants"])
        case "variant":
            plain = inner["kind"]
            if isinstance(plain, dict):
                children = get(plain.get("struct", {}).get("fields", []))
        case "trait":
            children = get(inner["items"])
    for child in children:
        walk(index, child, path, lines)
    for impl in get(inner.get("impls", []) if isinstance(inner, dict) else []):
        is_for = impl["inner"]["impl"]
        if is_for["blanket_impl"]:
            continue
        if is_for["trait"] is None:
            for child in get(is_for["items"]):
                if child["visibility"] == "public":
                    walk(index, child, path, lines)
        elif is_for["trait"]["path"] in UNSTABLE:
            continue
        elif not is_for["is_synthetic"] or is_for["trait"]["path"] in AUTO:
            negative = "!" if is_for["is_negative"] else ""
            lines.add(f"{path}  impl {negative}{trait_name(is_for)}")


def main():
    found = rustdoc()
    lines = set()
    walk(found["index"], found["index"][str(found["root"])], "", lines)
    text = "".join(f"{line}\n" for line in sorted(lines))
    if sys.argv[1:] == ["--write"]:
        SNAPSHOT.write_text(text)
        print(f"{len(lines)} items")
        return
    known = SNAPSHOT.read_text() if SNAPSHOT.exists() else ""
    if text != known:
        differs = difflib.unified_diff(known.splitlines(), text.splitlines(), "docs/public_api.txt", "src", "", "", 0, "")
        print("\n".join(differs))
        sys.exit("the public interface is another than docs/public_api.txt; if that is meant: tests/public_api.py --write")
    print(f"{len(lines)} items are as docs/public_api.txt has them")


main()
