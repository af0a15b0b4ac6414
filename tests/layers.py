#!/usr/bin/env python3
"""Reads the imports of src/ and fails where a file imports from a layer above its own,
or where files import each other in a circle.

    tests/layers.py            check
    tests/layers.py --print    print what each file imports

The layers are those of docs/DESIGN.md. What is behind `#[cfg(test)]` is not read.
"""

import re
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"
# From the bottom up. A folder that is not named here fails the check.
LAYERS = ["sync", "steps", "model", "crypto", "store", "memory", "change", "engine", "http", "tower", "proof"]


def module_of(path):
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    return tuple(parts[:-1] if parts[-1] == "mod" else parts)


def code_of(path):
    text = re.sub(r"//[^\n]*", "", path.read_text())
    for end in re.finditer(r"#\[cfg\((?:all\()?test[^\n]*\)\]\s*(?:#\[[^\n]*\]\s*)*mod \w+ \{", text):
        return text[: end.start()]
    return text


def is_test(path):
    """A file that only a `#[cfg(test)]` declares."""
    module = module_of(path)
    parent = [SRC.joinpath(*module[:-1]).with_suffix(".rs"), SRC.joinpath(*module[:-1], "mod.rs"), SRC / "lib.rs"]
    found = next((file for file in parent if file.is_file()), None)
    declared = re.search(rf"((?:#\[[^\n]*\]\s*)*)(?:pub(?:\([^)]*\))? )?mod {module[-1]};", found.read_text()) if module else None
    return bool(declared and "test" in declared.group(1))


def expand(tree):
    """The paths that a use tree names."""
    begin = tree.find("{")
    if begin < 0:
        return [re.sub(r"\s+as\s+\w+", "", tree).strip()]
    head, paths, depth, item = tree[:begin].strip(), [], 0, ""
    for char in tree[begin + 1 : tree.rindex("}")] + ",":
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            paths += [head + path for path in expand(item)] if item.strip() else []
            item = ""
        else:
            item += char
    return paths


def resolve(path, module, modules, exported):
    """The module that a path of a module leads into, if it is one of the crate's."""
    parts = re.sub(r"\s", "", path).split("::")
    if parts[0] == "self":
        parts = [*module, *parts[1:]]
    elif parts[0] == "super":
        base = list(module)
        while parts and parts[0] == "super":
            base, parts = base[:-1], parts[1:]
        parts = [*base, *parts]
    elif parts[0] == "crate":
        parts = parts[1:]
        if parts and parts[0] in exported:
            parts = exported[parts[0]]
    else:
        return None
    while parts and tuple(parts) not in modules:
        parts = parts[:-1]
    return tuple(parts) or None


def imports():
    modules = {module_of(path): path for path in SRC.rglob("*.rs") if path.name != "lib.rs"}
    exported = {}
    for tree in re.findall(r"pub use ([^;]+);", code_of(SRC / "lib.rs")):
        for path in expand(tree):
            exported[path.split("::")[-1]] = path.split("::")
    found = {}
    for module, path in modules.items():
        if is_test(path):
            continue
        code = code_of(path)
        paths = [path for tree in re.findall(r"\buse ([^;]+);", code) for path in expand(tree)]
        paths += re.findall(r"\b(?:crate|super)(?:::\w+)+", code)
        led = {resolve(path, module, modules, exported) for path in paths}
        found[module] = {other for other in led if other and other != module}
    return found


def circles(found):
    """The groups of modules that reach each other (Tarjan's algorithm)."""
    number, low, stack, groups = {}, {}, [], []

    def visit(module):
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in sorted(found.get(module, ())):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            at = stack.index(module)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(found):
        if module not in number:
            visit(module)
    return groups


def main():
    sys.setrecursionlimit(10_000)
    found = imports()
    name = "::".join
    if sys.argv[1:] == ["--print"]:
        for module in sorted(found):
            print(name(module), "<-", " ".join(map(name, sorted(found[module]))))
        return
    problems = [f"src/{module[0]} is not among the layers" for module in found if module[0] not in LAYERS]
    if problems:
        sys.exit("\n".join(sorted(set(problems))))
    for module in sorted(found):
        for other in sorted(found[module]):
            if LAYERS.index(other[0]) > LAYERS.index(module[0]):
                problems.append(f"{name(module)} imports {name(other)}, which is in a layer above")
    for group in circles(found):
        edges = [f"{name(a)} -> {name(b)}" for a in group for b in sorted(found[a]) if b in group]
        problems.append("these import each other in a circle: " + ", ".join(edges))
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(found)} modules in {len(LAYERS)} layers: none imports from above, no circle")


main()
