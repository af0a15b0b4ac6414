#!/usr/bin/env python3
"""Mutation testing of many mutants by one build: each is a branch that an environment
variable takes.

    python3 proof/mutants.py [--list] PATH...      # of src, a file or a folder
    python3 proof/mutants.py --report

The mutants are those that cargo-mutants makes, by its rules, and one for each statement or
arm that can be left out. Each test is run once by itself, to know which mutants it reaches;
then each mutant against the tests that reach it, first those of a module that is named as its
file or folder, then those that are quick and reach few others, until one fails or SECONDS of
tests have passed. What cannot be such a branch is not run, and counted. Results are kept in
target/mutants: a second run does what is left.
Wants `pip install tree-sitter tree-sitter-rust`.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tree_sitter
import tree_sitter_rust

ROOT = Path(__file__).resolve().parent.parent
WORK = Path(os.environ.get("MUT_WORK", ROOT / "target" / "mutants"))
TREE = WORK / "tree"
JOBS = int(os.environ.get("MUT_JOBS", "2"))
SECONDS = float(os.environ.get("MUT_SECONDS", "40"))
BINARIES = os.environ.get("MUT_BINARIES", "--lib --test it --test http --test json").split()
RUST = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
SWITCH = """
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static SEEN: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];

pub(crate) fn on(number: usize) -> bool {
    static ACTIVE: OnceLock<Option<usize>> = OnceLock::new();
    static REACHED: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    if let Some(path) = REACHED.get_or_init(|| std::env::var_os("MUTANTS_REACHED"))
        && !SEEN[number].swap(true, Ordering::Relaxed)
    {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{number}\\n").as_bytes()).unwrap();
    }
    *ACTIVE.get_or_init(|| std::env::var("MUTANT").ok()?.parse().ok()) == Some(number)
}
"""


def copy_source():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = ROOT / name, TREE / name
        if source.is_file() and (not target.is_file() or target.read_bytes() != source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


class File:
    def __init__(self, name):
        self.name = name
        self.text = (ROOT / name).read_bytes()
        self.lines = [0]
        for line in self.text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.root = RUST.parse(self.text).root_node

    def at(self, place):
        return self.lines[place["line"] - 1] + place["column"] - 1

    def plain(self, node):
        return self.text[node.start_byte : node.end_byte].decode()


def descend(node):
    yield node
    for child in node.children:
        yield from descend(child)


def find(file, start, end):
    """The outermost node of a span."""
    node = file.root
    while True:
        inner = [c for c in node.children if c.start_byte <= start and end <= c.end_byte]
        if (node.start_byte, node.end_byte) == (start, end) or not inner:
            return node
        node = inner[0]


class Mutant:
    """`edits`: (start, end, function of what is inside) for the build of all; `plain`:
    (start, end, text) for a build of its own."""

    def __init__(self, file, name, kind, plain):
        self.file, self.name, self.kind, self.plain = file, name, kind, plain
        self.number = None
        self.edit = None

    def on(self):
        return f"crate::mutants::on({self.number})"

    def marked(self, text):
        return f"/*<{self.number}*/{text}/*{self.number}>*/"


def choice(mutant, text):
    return lambda inner: mutant.marked(f"(if {mutant.on()} {{ {text} }} else {{ {inner} }})")


OPERATORS = {
    "==": ["!="], "!=": ["=="], "&&": ["||"], "||": ["&&"], "<": ["==", ">", "<="], ">": ["==", "<", ">="],
    "<=": [">"], ">=": ["<"], "+": ["-", "*"], "-": ["+", "/"], "*": ["+", "/"], "/": ["%", "*"], "%": ["/", "+"],
    "<<": [">>"], ">>": ["<<"], "&": ["|", "^"], "|": ["&", "^"], "^": ["|", "&"], "+=": ["-=", "*="],
    "-=": ["+=", "/="], "*=": ["+=", "/="], "/=": ["%=", "*="], "%=": ["/=", "+="], "<<=": [">>="], ">>=": ["<<="],
    "&=": ["|="], "|=": ["&="], "^=": ["|=", "&="],
}
UNSIGNED = {"u8", "u16", "u32", "u64", "u128", "usize"}


def values(file, node):
    """What a function that does nothing may give."""
    if node is None:
        return ["()"]
    text = file.plain(node)
    if text == "bool":
        return ["true", "false"]
    if text in UNSIGNED:
        return ["0", "1"]
    if text == "()":
        return ["()"]
    if node.type == "tuple_type":
        parts = [values(file, part) for part in node.named_children]
        return [f"({', '.join(chosen)})" for chosen in itertools.product(*parts)]
    if node.type == "generic_type":
        name = file.plain(node.child_by_field_name("type"))
        inner = [c for c in node.child_by_field_name("type_arguments").named_children if c.type != "lifetime"]
        if name == "Result":
            return [f"Ok({value})" for value in values(file, inner[0])]
        if name == "Option":
            return ["None"] + [f"Some({value})" for value in values(file, inner[0])]
        if name == "Vec":
            return ["vec![]"] + [f"vec![{value}]" for value in values(file, inner[0])]
    return ["Default::default()"]


def places(file):
    """The mutants that cargo-mutants 27 makes, by its rules."""

    def mutant(node, kind, what, plain, edit):
        line, column = node.start_point[0] + 1, node.start_point[1] + 1
        found = Mutant(file, f"{file.name}:{line}:{column}: {what}", kind, plain)
        found.edit = edit and edit(found)
        return found

    for node in descend(file.root):
        if is_test(node):
            continue
        start, end = node.start_byte, node.end_byte
        if node.type == "function_item":
            body = node.child_by_field_name("body")
            name = file.plain(node.child_by_field_name("name"))
            in_impl = node.parent.parent is not None and node.parent.parent.type in ("impl_item", "trait_item")
            if not body.named_children or (in_impl and name == "new"):
                continue
            at = body.start_byte + 1
            for value in values(file, node.child_by_field_name("return_type")):
                if "".join(file.plain(body).strip("{}").split()) == "".join(value.split()):
                    continue
                yield mutant(
                    node, "FnValue", f"{name} gives {value}", (at, body.end_byte - 1, value),
                    lambda m, at=at, value=value: (
                        at, at, lambda _: m.marked(f" if {m.on()} {{ return {value}; }} "),
                    ),
                )
        elif node.type in ("binary_expression", "compound_assignment_expr"):
            operator = node.child_by_field_name("operator")
            left = file.text[start : operator.start_byte].decode()
            right = file.text[operator.end_byte : end].decode()
            for new in OPERATORS.get(file.plain(operator), []):
                text = f"{left}{new}{right}"
                if node.type == "binary_expression":
                    edit = lambda m, s=start, e=end, t=text: (s, e, choice(m, t))
                else:
                    edit = lambda m, s=start, e=end, t=text: (
                        s, e, lambda inner: m.marked(f"if {m.on()} {{ {t}; }} else {{ {inner}; }}"),
                    )
                what = f"{file.plain(operator)} becomes {new}"
                yield mutant(operator, "BinaryOperator", what, (operator.start_byte, operator.end_byte, new), edit)
        elif node.type == "unary_expression" and file.plain(node.children[0]) in ("!", "-"):
            text = file.text[node.children[0].end_byte : end].decode()
            yield mutant(
                node, "UnaryOperator", f"{file.plain(node.children[0])} is left out",
                (start, node.children[0].end_byte, ""), lambda m, s=start, e=end, t=text: (s, e, choice(m, t)),
            )
        elif node.type == "match_block":
            arms = [c for c in node.named_children if c.type == "match_arm"]
            patterns = [arm.child_by_field_name("pattern") for arm in arms]
            has_rest = any(file.plain(pattern) == "_" for pattern in patterns)
            for arm, pattern in zip(arms, patterns):
                condition = pattern.child_by_field_name("condition")
                what = " ".join(file.plain(pattern).split())
                if condition is None:
                    if has_rest and what != "_":
                        at = pattern.end_byte
                        yield mutant(
                            arm, "MatchArm", f"no arm {what}", (arm.start_byte, arm.end_byte, ""),
                            lambda m, at=at: (at, at, lambda _: m.marked(f" if !{m.on()} ")),
                        )
                    continue
                for value in ("true", "false"):
                    s, e = condition.start_byte, condition.end_byte
                    edit = lambda m, s=s, e=e, v=value: (s, e, choice(m, v))
                    if condition.type in ("let_chain", "let_condition"):
                        edit = None
                    yield mutant(condition, "MatchArmGuard", f"{value} guards {what}", (s, e, value), edit)
        elif node.type == "field_initializer_list" and any(
            c.type == "base_field_initializer" for c in node.named_children
        ):
            whole = node.parent
            for field in node.named_children:
                if field.type not in ("field_initializer", "shorthand_field_initializer"):
                    continue
                comma = field.next_sibling
                upto = comma.end_byte if comma is not None and comma.type == "," else field.end_byte
                s, e = whole.start_byte, whole.end_byte
                text = (file.text[s : field.start_byte] + file.text[upto:e]).decode()
                what = file.plain(field).split(":")[0]
                yield mutant(
                    field, "StructField", f"{what} is that of the base", (field.start_byte, upto, ""),
                    lambda m, s=s, e=e, t=text: (s, e, choice(m, t)),
                )


def is_test(node):
    while node:
        if node.type == "mod_item":
            return True
        node = node.parent
    return False


def left_out(file, node, kind, plain):
    """The mutant without what a node does."""
    line, column = node.start_point[0] + 1, node.start_point[1] + 1
    first = " ".join(file.plain(node).split())[:70]
    place = (node.start_byte, node.end_byte)
    mutant = Mutant(file, f"{file.name}:{line}:{column}: leave out `{first}`", kind, (*place, plain))
    mutant.edit = (*place, lambda inner: mutant.marked(f"if !{mutant.on()} {{ {inner} }}"))
    return mutant


def statements(file):
    """A mutant without each statement that has no value."""
    for node in descend(file.root):
        if node.type != "expression_statement" or node.parent.type != "block" or is_test(node):
            continue
        text = file.plain(node)
        inner = node.children[0].type
        diverges = inner in ("return_expression", "break_expression", "continue_expression")
        if diverges and node.parent.parent.type == "let_declaration":
            continue
        if not text.endswith(";"):
            siblings = [c for c in node.parent.named_children if "comment" not in c.type]
            if siblings[-1] == node and inner not in ("for_expression", "while_expression"):
                continue
            if inner == "loop_expression":
                continue
        # What holds one statement alone is left out with that.
        body = node.children[0]
        block = body.child_by_field_name("consequence") or body.child_by_field_name("body")
        if block is not None and block.type == "block" and not body.child_by_field_name("alternative"):
            held = [c for c in block.named_children if "comment" not in c.type]
            if len(held) == 1 and held[0].type == "expression_statement":
                continue
        yield left_out(file, node, "Statement", "")


def arms(file):
    """A mutant without each arm's effect. Where that is a value, it does not build, and is
    no mutant."""
    for node in descend(file.root):
        if node.type != "match_arm" or is_test(node):
            continue
        value = node.child_by_field_name("value")
        if value.type not in ("call_expression", "assignment_expression"):
            continue
        yield left_out(file, value, "Arm", "()")


def render(file, mutants):
    edits = sorted(
        ((m.edit[0], m.edit[1], m) for m in mutants if m.edit), key=lambda e: (e[0], -e[1], e[2].kind in ("Statement", "Arm"))
    )

    def inside(start, end, edits):
        out, at = [], start
        while edits:
            first = edits[0]
            if first[0] == first[1]:
                out.append(file.text[at : first[0]].decode())
                at = first[0]
                out.append(first[2].edit[2](""))
                edits = edits[1:]
                continue
            same = [e for e in edits if e[:2] == first[:2]]
            rest = [e for e in edits if e[:2] != first[:2]]
            within = [e for e in rest if first[0] <= e[0] and e[1] <= first[1]]
            text = inside(first[0], first[1], within)
            # A statement is left out around all else that stands in its place.
            for e in sorted(same, key=lambda e: e[2].kind in ("Statement", "Arm")):
                text = e[2].edit[2](text)
            out.append(file.text[at : first[0]].decode())
            out.append(text)
            at = first[1]
            edits = [e for e in rest if e not in within]
        out.append(file.text[at:end].decode())
        return "".join(out)

    return inside(0, len(file.text), edits)


def cargo(*arguments):
    env = dict(os.environ, CARGO_TERM_COLOR="never", CARGO_TARGET_DIR=str(WORK / "target"))
    quick = ["--config", "profile.test.package.gatekey.opt-level=0", "--config", "profile.test.package.gatekey.debug=0"]
    return subprocess.run(
        ["cargo", *arguments, *quick, "-p", "gatekey", "--all-features", "--message-format=json"],
        cwd=TREE, env=env, text=True, capture_output=True,
    )


def messages(done):
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def write_tree(files, mutants, count):
    (TREE / "src" / "mutants.rs").write_text(SWITCH.replace("COUNT", str(max(count, 1))))
    lib = (ROOT / "src" / "lib.rs").read_text()
    (TREE / "src" / "lib.rs").write_text(lib + "\n#[allow(clippy::all, dead_code, missing_docs)]\nmod mutants;\n")
    for file in files:
        target = TREE / file.name
        text = render(file, [m for m in mutants if m.file is file])
        if target.read_text() != text:
            target.write_text(text)


def build_all(files, mutants):
    """Builds what it can of all mutants at once; the others lose their edit."""
    forms = [("check", "--lib"), ("check", "--lib", "--profile", "test")]
    while forms:
        write_tree(files, mutants, len(mutants))
        done = cargo(*forms[0])
        if done.returncode == 0:
            forms.pop(0)
            continue
        dropped = set()
        errors = [m["message"] for m in messages(done) if m.get("reason") == "compiler-message" and m["message"]["level"] == "error"]
        for error in errors:
            for span in error["spans"]:
                path = TREE / span["file_name"]
                text = path.read_bytes()
                best = None
                for found in re.finditer(rb"/\*<(\d+)\*/", text):
                    number = found.group(1)
                    end = text.find(b"/*" + number + b">*/", found.end())
                    if found.start() <= span["byte_start"] <= end and (best is None or end - found.start() < best[0]):
                        best = (end - found.start(), int(number))
                if best:
                    dropped.add(best[1])
        if not dropped:
            sys.exit(f"no mutant is near these errors:\n" + "\n".join(e["rendered"] for e in errors))
        for mutant in mutants:
            if mutant.number in dropped:
                mutant.edit = None
        print(f"{len(dropped)} are built by themselves", flush=True)


def build_tests(binaries):
    done = cargo("test", "--no-run", *binaries)
    if done.returncode != 0:
        return None, done.stdout + done.stderr
    return [m["executable"] for m in messages(done) if m.get("executable") and m["profile"]["test"]], ""


def run_tests(binary, names, seconds, env):
    """The verdict on all, the first that failed, and the seconds."""
    begun = time.monotonic()
    try:
        done = subprocess.run(
            [binary, "--exact", *names, "--test-threads=1"], cwd=TREE, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=seconds,
        )
        verdict = "passed" if done.returncode == 0 else "failed"
        found = re.search(r"^test (\S+) .*FAILED$", done.stdout, re.MULTILINE)
        name = found.group(1) if found else names[0]
    except subprocess.TimeoutExpired:
        verdict, name = "timeout", names[0]
    return verdict, name, time.monotonic() - begun


def base_env(**more):
    return dict(os.environ, RUST_BACKTRACE="0", **more)


def baseline(executables, count):
    """Each test by itself: its time, and what it reaches."""
    state = WORK / "baseline.jsonl"
    known = {}
    if state.exists():
        for line in state.read_text().splitlines():
            binary, name, verdict, seconds, numbers = json.loads(line)
            known[binary, name] = (verdict, seconds, set(numbers))
    wanted = re.compile(os.environ.get("MUT_TESTS", ""))
    listed = []
    for binary in executables:
        names = subprocess.run([binary, "--list"], cwd=TREE, text=True, capture_output=True).stdout
        short = Path(binary).name.split("-")[0]
        names = [line.removesuffix(": test") for line in names.splitlines() if line.endswith(": test")]
        listed += [(binary, name) for name in names if wanted.search(f"{short} {name}")]

    def run(test):
        binary, name = test
        if test in known:
            return test, known[test]
        path = WORK / f"reached-{threading.get_ident()}"
        path.unlink(missing_ok=True)
        verdict, _, seconds = run_tests(binary, [name], 300, base_env(MUTANTS_REACHED=str(path)))
        numbers = path.read_text().split() if path.exists() else []
        return test, (verdict, seconds, {int(n) for n in numbers if int(n) < count})

    tests = {}
    with open(state, "a") as out, ThreadPoolExecutor(JOBS) as pool:
        for test, (verdict, seconds, numbers) in pool.map(run, listed):
            if test not in known:
                out.write(json.dumps([*test, verdict, seconds, sorted(numbers)]) + "\n")
                out.flush()
            if verdict != "passed":
                print(f"not of use: {test[1]} {verdict}", flush=True)
            elif numbers:
                tests[test] = (seconds, numbers)
    return tests


def parts(wanted, tests):
    """Lists of tests of one binary, each of which takes about twice as long as that before."""
    most, part, took = 0.3, [], 0.0
    for test in wanted:
        if part and (test[0] != part[0][0] or took > most):
            yield part
            part, took, most = [], 0.0, most * 1.5
        part.append(test)
        took += tests[test][0]
    if part:
        yield part


def verdict_of(mutant, tests):
    wanted = [t for t in tests if mutant.number in tests[t][1]]
    path = Path(mutant.file.name)
    named = re.compile(rf"\b({path.stem}|{path.parent.name})::")
    wanted.sort(key=lambda t: (not named.search(t[1]), (tests[t][0] + 0.02) * len(tests[t][1])))
    env = base_env(MUTANT=str(mutant.number))
    took, ran = 0.0, 0
    for part in parts(wanted, tests):
        expected = sum(tests[t][0] for t in part)
        verdict, name, _ = run_tests(part[0][0], [t[1] for t in part], expected * 6 + 20, env)
        ran += len(part)
        took += expected
        if verdict != "passed":
            return ("caught" if verdict == "failed" else "timeout"), name, f"{ran}/{len(wanted)}"
        if took > SECONDS:
            break
    return ("survived" if wanted else "not reached"), "", f"{ran}/{len(wanted)}"


def report():
    """A row for each file."""
    rows = {}
    for line in (WORK / "results.txt").read_text().splitlines():
        number, verdict, kind, name, _, _ = line.split("\t")
        rows.setdefault(name.split(":")[0], {})[int(number)] = verdict
    print("| file | mutants | caught | ended by its time | survived | not reached | do not build |")
    print("|---|---|---|---|---|---|---|")
    for name, found in sorted(rows.items()):
        counts = [sum(v == w for v in found.values()) for w in ("caught", "timeout", "survived", "not reached", "not built")]
        print("|", " | ".join(map(str, [f"`{name}`", len(found), *counts])), "|")


def main():
    paths, only = sys.argv[1:], []
    if "--only" in paths:
        at = paths.index("--only")
        paths, only = paths[:at], paths[at + 1 :]
    if "--report" in paths:
        return report()
    is_list = "--list" in paths
    names = []
    for path in paths:
        if path != "--list":
            found = ROOT / path
            names += [found] if found.is_file() else found.rglob("*.rs")
    names = [name for name in names if name.stem not in ("tests", "interleavings")]
    files = [File(str(name.relative_to(ROOT))) for name in sorted(names)]
    mutants = []
    for file in files:
        mutants += [*places(file), *statements(file), *arms(file)]
    mutants.sort(key=lambda m: (m.file.name, m.plain[0], m.name))
    for number, mutant in enumerate(mutants):
        mutant.number = number
    if is_list:
        for m in mutants:
            print(m.number, m.kind, m.name, "" if m.edit else "PLAIN")
        return
    WORK.mkdir(parents=True, exist_ok=True)
    built = WORK / "built.json"
    if os.environ.get("MUT_KEEP"):
        executables, without = json.loads(built.read_text())
        for mutant in mutants:
            if mutant.number in without:
                mutant.edit = None
    else:
        copy_source()
        build_all(files, mutants)
        executables, output = build_tests(BINARIES)
        if executables is None:
            sys.exit(output[-5000:])
        built.write_text(json.dumps([executables, [m.number for m in mutants if m.edit is None]]))
    begun = time.monotonic()
    tests = baseline(executables, len(mutants))
    print(f"{len(tests)} tests reach a mutant; {time.monotonic() - begun:.0f} s", flush=True)
    path = WORK / "results.txt"
    done = set()
    if path.exists():
        for line in path.read_text().splitlines():
            number, verdict, _ = line.split("\t", 2)
            if verdict in ("caught", "timeout", "not built"):
                done.add(int(number))
    wanted = [m for m in mutants if m.number not in done and (not only or any(o in m.name for o in only))]
    with open(path, "a") as results, ThreadPoolExecutor(JOBS) as pool:

        def run(mutant):
            verdict, by, count = ("not built", "", "0/0") if mutant.edit is None else verdict_of(mutant, tests)
            return f"{mutant.number}\t{verdict}\t{mutant.kind}\t{mutant.name}\t{by}\t{count}"

        for line in pool.map(run, wanted):
            results.write(line + "\n")
            results.flush()
            if "\tcaught\t" not in line:
                print(line, flush=True)


if __name__ == "__main__":
    main()
