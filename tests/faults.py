#!/usr/bin/env python3
"""Seeds each fault of tests/faults.toml into a copy of the source, and demands
that the test named beside it fails.

    tests/faults.py             seed them all
    tests/faults.py TEXT ...    those whose name or file holds one of the texts
    tests/faults.py --new [TEXT ...]    the same, of those that were never seeded
    tests/faults.py --pending   lists what is new as still to be seeded
    tests/faults.py --check     whether each can still be seeded, and is listed

Each row of docs/faults.txt is of the last time that its fault was seeded.

A fault that does not build shows nothing, and one that its test lets pass is a
hole in the proof: both make this program fail. Before that, every test must pass
on the source as it is, or its failing would mean nothing.
"""

import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "faults"
ROWS = ROOT / "docs" / "faults.txt"
# A fault may make a test wait for ever.
SECONDS_MAX = 600
FEATURES = "--all-features"
# The verdict on a fault that is listed and was never seeded.
PENDING = "pending"
# Each fault is a build of its own, which takes longer than its one test.
QUICK = ["--config", "profile.dev.package.gatekey.opt-level=0", "--config", "profile.dev.package.gatekey.debug=0"]


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
    return ["cargo", "test", "--quiet", *QUICK, FEATURES, *more, *fault["test"]]


def run(fault, tree, *more):
    """Whether a command succeeds, and the last of what it printed."""
    env = dict(os.environ, CARGO_TERM_COLOR="never", RUST_BACKTRACE="0")
    env["CARGO_TARGET_DIR"] = str(WORK / "target")
    env["GATEKEY_TOOLS_BIN"] = str(ROOT / "target" / "tools" / "bin")
    if "rustc" in fault:
        env["RUSTC_WORKSPACE_WRAPPER"] = str(ROOT / fault["rustc"])
    env.update(fault.get("env", {}))
    try:
        done = subprocess.run(
            command(fault, *more), cwd=tree, env=env, text=True, errors="replace",
            stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        return False, "it took too long"
    return done.returncode == 0, done.stdout + done.stderr


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
    return (fault.get("rustc"), str(fault.get("env")), *fault["test"])


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
        write_rows([row_of(fault, PENDING) for fault in never if fault["name"] not in listed], 0)
        return
    if wanted[:1] == ["--new"]:
        faults, wanted = never, wanted[1:]
    if wanted:
        faults = [
            fault for fault in faults
            if any(text in fault["name"] or text in fault["file"] for text in wanted)
        ]
        if not faults:
            sys.exit(f"no fault's name or file holds any of {wanted}")
    tree = WORK / "tree"
    copy_source(tree)
    failures = []
    sound = {}
    rows = []
    begun = time.monotonic()
    # All of these before the first fault: each change of the source is a build.
    for fault in faults:
        what = what_runs(fault)
        if what not in sound:
            passed, output = run(fault, tree)
            sound[what] = passed and ran_a_test(output)
            if not sound[what]:
                failures.append(f"{fault['test']} does not pass, or runs nothing, on the sound source:\n{output}")
    for fault in faults:
        verdict, output = seed(fault, tree) if sound[what_runs(fault)] else ("NO SOUND TEST", "")
        if verdict != "caught":
            failures.append(f"{fault['name']}: {verdict}\n{output[-3000:]}")
        row = row_of(fault, verdict)
        rows.append(row)
        print(row, flush=True)
        # After each, so that a run that is cut off has not run for nothing.
        write_rows(rows, time.monotonic() - begun)
    if failures:
        sys.exit("\n\n".join(failures))


main()
