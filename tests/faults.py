#!/usr/bin/env python3
"""Seeds each fault of tests/faults.toml into a copy of the source, and demands
that the test named beside it fails.

    tests/faults.py             seed them all
    tests/faults.py TEXT ...    those whose name or file holds one of the texts
    tests/faults.py --new [TEXT ...]    the same, of those that were never seeded
    tests/faults.py --alone [TEXT ...]  with a build for each
    tests/faults.py --pending   lists what is new as still to be seeded
    tests/faults.py --check     whether each can still be seeded, and is listed

Each row of docs/faults.txt is of the last time that its fault was seeded.

A fault that does not build shows nothing, and one that its test lets pass is a
hole in the proof: both make this program fail. Before that, every test must pass
on the source as it is, or its failing would mean nothing.

Faults in the bodies of the crate's functions are built together: each body is there
once for each of its faults, and an environment variable says which is run. What
cannot be built so, or is not caught so, is built by itself; a fault that is `as_tested`
always is, and with the profile of `cargo test`.
"""

import datetime
import json
import os
import platform
import re
import signal
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "faults"
ROWS = ROOT / "docs" / "faults.txt"
# A fault may make a test wait for ever, and the build of all of them takes its time.
SECONDS_MAX = 600
BUILD_SECONDS_MAX = 3_600
FEATURES = "--all-features"
# The verdict on a fault that is listed and was never seeded.
PENDING = "pending"
# Each fault is a build of its own, which takes longer than its one test.
QUICK = ["--config", "profile.test.package.gatekey.opt-level=0", "--config", "profile.test.package.gatekey.debug=0"]

SEEDED = "GATEKEY_FAULT"
SWITCH = f"""//! Which fault is seeded.

use std::sync::OnceLock;

pub(crate) fn is(number: usize) -> bool {{
    static SEEDED: OnceLock<Option<usize>> = OnceLock::new();
    *SEEDED.get_or_init(|| std::env::var("{SEEDED}").ok()?.parse().ok()) == Some(number)
}}
"""
NOT_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\bb?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'""", re.DOTALL
)


def read_faults():
    with open(ROOT / "tests" / "faults.toml", "rb") as table:
        faults = tomllib.load(table)["fault"]
    problems = []
    names = [fault["name"] for fault in faults]
    for fault in faults:
        name = fault["name"]
        if names.count(name) > 1:
            problems.append(f"{name}: two faults have this name")
        count = (ROOT / fault["file"]).read_text().count(fault["find"])
        if count != 1:
            problems.append(f"{name}: what is to be replaced stands {count} times in {fault['file']}")
        if fault["find"] == fault["replace"] or not fault["test"]:
            problems.append(f"{name}: it changes nothing, or names no test")
    if problems:
        sys.exit("\n".join(problems))
    return faults


def copy_source(tree):
    """A copy of what git knows, as it is in the working tree; only what differs is
    written, so that the build of the last run is of use."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
    ).stdout.split(b"\0")
    names = {os.fsdecode(name) for name in listed if name}
    # What an earlier run has copied, and is no more.
    for path in list(tree.rglob("*")):
        if path.is_file() and str(path.relative_to(tree)) not in names:
            path.unlink()
    for name in names:
        source, target = ROOT / name, tree / name
        if not source.is_file():
            continue
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def command(fault, *more):
    # What lies on a stack depends on what is optimised.
    profile = [] if fault.get("as_tested") else QUICK
    return ["cargo", "test", "--quiet", *profile, FEATURES, *more, *fault["test"]]


def run(fault, tree, *more, command=command, seeded=None):
    """Whether a command succeeds, and what it printed."""
    env = dict(os.environ, CARGO_TERM_COLOR="never", RUST_BACKTRACE="0")
    env["CARGO_TARGET_DIR"] = str(WORK / "target")
    env["GATEKEY_TOOLS_BIN"] = str(ROOT / "target" / "tools" / "bin")
    if "rustc" in fault:
        env["RUSTC_WORKSPACE_WRAPPER"] = str(ROOT / fault["rustc"])
    env.update(fault.get("env", {}))
    if seeded is not None:
        env[SEEDED] = str(seeded)
    # In a session of its own, so that a test that waits for ever is ended with its cargo.
    started = subprocess.Popen(
        command(fault, *more), cwd=tree, env=env, text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    try:
        output, _ = started.communicate(timeout=BUILD_SECONDS_MAX if command is building else SECONDS_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        return False, "it took too long"
    return started.returncode == 0, output


def bodies(text):
    """Where the bodies of functions are that need not be constant."""
    code = NOT_CODE.sub(lambda found: " " * len(found.group()), text)
    for found in re.finditer(r"\b(const\s+)?fn\s+\w+", code):
        depth, at = 0, found.end()
        while depth > 0 or code[at] not in "{;":
            depth += (code[at] in "([") - (code[at] in ")]")
            at += 1
        if code[at] == ";" or found.group(1):
            continue
        begun, depth = at, 0
        while True:
            depth += (code[at] == "{") - (code[at] == "}")
            if depth == 0:
                break
            at += 1
        yield begun + 1, at


def crate_of(fault):
    """The folder of a fault's crate."""
    return fault["file"].partition("src/")[0]


def root_of(crate):
    """The file that names a crate's modules."""
    lib = f"{crate}src/lib.rs"
    return lib if (ROOT / lib).is_file() else f"{crate}src/main.rs"


def building(fault):
    crate = crate_of(fault)
    package = Path(crate).name or "gatekey"
    target = "--lib" if root_of(crate).endswith("lib.rs") else "--bins"
    return ["cargo", "test", *QUICK, FEATURES, "-p", package, "--no-run", target, "--message-format=json"]


class Together:
    """Faults of a crate in one build."""

    def __init__(self, crate, faults, tree):
        self.crate = crate
        self.tree = tree
        # By file and body.
        self.places = {}
        self.numbers = {}
        for number, fault in enumerate(faults):
            text = (ROOT / fault["file"]).read_text()
            start = text.index(fault["find"])
            around = [b for b in bodies(text) if b[0] <= start and start + len(fault["find"]) <= b[1]]
            if around:
                # The outermost, so that no two lie within each other.
                self.places.setdefault((fault["file"], min(around)), []).append(number)
                self.numbers[number] = fault

    def write(self):
        copy_source(self.tree)
        (self.tree / self.crate / "src" / "seeded.rs").write_text(SWITCH)
        root = root_of(self.crate)
        texts = {root: (self.tree / root).read_text() + "\n#[allow(missing_docs)]\nmod seeded;\n"}
        # From the end, so that places stay where they are.
        for (file, (start, end)), numbers in sorted(self.places.items(), reverse=True):
            text = texts.get(file) or (ROOT / file).read_text()
            body = text[start:end]
            seeded = [
                f"/*<{number}*/if crate::seeded::is({number}) {{"
                f"{body.replace(self.numbers[number]['find'], self.numbers[number]['replace'])}"
                f"}}/*{number}>*/ else "
                for number in numbers
            ]
            whole = "".join(seeded) + f"{{{body}}}" if numbers else body
            texts[file] = f"{text[:start]}{whole}{text[end:]}"
        for file, text in texts.items():
            (self.tree / file).write_text(text)

    def drop(self, file, at):
        """Takes out what stands where the compiler found an error."""
        text = (self.tree / file).read_bytes().decode() if (self.tree / file).is_file() else ""
        here = [place for place in self.places if place[0] == file]
        for place in here:
            for number in self.places[place]:
                if text.index(f"/*<{number}*/") <= at <= text.index(f"/*{number}>*/"):
                    return [(place, number)]
        # Between two, or in the part of a function before its body.
        before = [
            place for place in here
            if self.places[place] and text.index(f"/*<{self.places[place][0]}*/") - 300 <= at
        ]
        places = [max(before)] if before else here or list(self.places)
        return [(place, number) for place in places for number in self.places[place]]

    def build(self):
        """Builds what can be built; what cannot is taken out."""
        while self.numbers:
            self.write()
            fault = next(iter(self.numbers.values()))
            built, output = run(fault, self.tree, command=building)
            if built:
                return
            dropped = set()
            for line in output.splitlines():
                found = json.loads(line) if line.startswith("{") else {}
                message = found.get("message", {})
                if found.get("reason") == "compiler-message" and message["level"] == "error":
                    for span in message["spans"]:
                        if span["is_primary"]:
                            dropped.update(self.drop(span["file_name"], span["byte_start"]))
            dropped = dropped or {(place, number) for place in self.places for number in self.places[place]}
            print(f"{len(dropped)} of {len(self.numbers)} are not built with the others", flush=True)
            for place, number in dropped:
                self.places[place].remove(number)
                del self.numbers[number]


def ran_a_test(output):
    counts = [line for line in output.splitlines() if line.startswith("test result: ok.")]
    return any(not line.startswith("test result: ok. 0 passed") for line in counts)


def seed(fault, tree):
    path = tree / fault["file"]
    sound = path.read_text()
    path.write_text(sound.replace(fault["find"], fault["replace"]))
    try:
        built, output = run(fault, tree, "--no-run")
        if not built:
            return "DOES NOT BUILD", output
        passed, output = run(fault, tree)
        return ("NOT CAUGHT" if passed else "caught"), output
    finally:
        path.write_text(sound)


def row_of(fault, verdict):
    return f"{fault['promise']:>5}  {verdict:<14}  {fault['file']:<24}  {fault['name']}\n         by {fault['test'][-1]}"


def name_of(row):
    """Behind the promise, the verdict and the file."""
    return re.split(r"\s{2,}", row.splitlines()[0].strip(), maxsplit=3)[3]


def known_rows():
    lines = [line for line in ROWS.read_text().splitlines() if not line.startswith("#")]
    return ["\n".join(lines[at : at + 2]) for at in range(0, len(lines), 2)]


def write_rows(rows, seconds):
    """Puts the rows of this run in the place of those of earlier ones."""
    latest = {name_of(row): row for row in known_rows() + rows}
    faults = read_faults()
    faults.sort(key=lambda fault: fault["promise"] if fault["promise"] != "field" else 99)
    kept = [latest[fault["name"]] for fault in faults if fault["name"] in latest]
    caught = sum(row.split()[1] == "caught" for row in kept)
    head = (
        f"# python3 tests/faults.py, {datetime.date.today()}, {platform.machine()},"
        f" {os.cpu_count()} cores, {seconds:.0f} s for the {len(rows)} that were run last\n"
        f"# {len(faults)} faults, {caught} caught."
        " The first column is the promise of docs/DESIGN.md, or: what failed elsewhere.\n"
    )
    ROWS.write_text(head + "".join(row + "\n" for row in kept))


def what_runs(fault):
    return (fault.get("rustc"), str(fault.get("env")), fault.get("as_tested"), *fault["test"])


def main():
    faults = read_faults()
    wanted = sys.argv[1:]
    seeded = {name_of(row) for row in known_rows() if row.split()[1] != PENDING}
    listed = {name_of(row) for row in known_rows()}
    never = [fault for fault in faults if fault["name"] not in seeded]
    if wanted == ["--check"]:
        missing = [fault["name"] for fault in never if fault["name"] not in listed]
        if missing:
            sys.exit("\n".join(f"{name}: it was never seeded" for name in missing))
        print(f"{len(faults)} faults can be seeded; {len(never)} are still to be seeded for the first time")
        return
    if wanted == ["--pending"]:
        head = ROWS.read_text().splitlines()[0]
        write_rows([row_of(fault, PENDING) for fault in never if fault["name"] not in listed], 0)
        # Nothing was run.
        ROWS.write_text("\n".join([head, *ROWS.read_text().splitlines()[1:], ""]))
        return
    if wanted[:1] == ["--new"]:
        faults, wanted = never, wanted[1:]
    is_alone = wanted[:1] == ["--alone"]
    wanted = wanted[is_alone:]
    if wanted:
        faults = [
            fault for fault in faults
            if any(text in fault["name"] or text in fault["file"] for text in wanted)
        ]
        if not faults:
            sys.exit(f"no fault's name or file holds any of {wanted}")
    tree = WORK / "tree"
    failures = []
    rows = []
    begun = time.monotonic()

    def note(fault, verdict, output):
        if verdict != "caught":
            failures.append(f"{fault['name']}: {verdict}\n{output[-3000:]}")
        row = row_of(fault, verdict)
        rows.append(row)
        print(row, flush=True)
        # After each, so that a run that is cut off has not run for nothing.
        write_rows(rows, time.monotonic() - begun)

    alone = list(faults)
    joined = [fault for fault in faults if "src/" in fault["file"] and not fault.get("as_tested")]
    kinds = {(fault.get("rustc"), crate_of(fault)) for fault in joined}
    for kind in sorted(kinds, key=str) if not is_alone else ():
        rustc, crate = kind
        here = [fault for fault in joined if (fault.get("rustc"), crate_of(fault)) == kind]
        together = Together(crate, here, tree)
        together.build()
        sound = {}
        for number, fault in together.numbers.items():
            what = what_runs(fault)
            if what not in sound:
                passed, output = run(fault, tree)
                sound[what] = passed and ran_a_test(output)
            if sound[what]:
                passed, output = run(fault, tree, seeded=number)
                if not passed:
                    alone.remove(fault)
                    note(fault, "caught", output)
    copy_source(tree)
    sound = {}
    # All of these before the first fault: each change of the source is a build.
    for fault in alone:
        what = what_runs(fault)
        if what not in sound:
            passed, output = run(fault, tree)
            sound[what] = passed and ran_a_test(output)
            if not sound[what]:
                failures.append(f"{fault['test']} does not pass, or runs nothing, on the sound source:\n{output}")
    for fault in alone:
        note(fault, *(seed(fault, tree) if sound[what_runs(fault)] else ("NO SOUND TEST", "")))
    if failures:
        sys.exit("\n\n".join(failures))


main()
