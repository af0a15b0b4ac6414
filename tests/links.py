#!/usr/bin/env python3
"""Checks the pages: every link leads somewhere, every page can be found from README.md,
every file and test that a page names exists, and every page with Rust is a test.

    python3 tests/links.py
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```.*?^```\s*$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`([^`\n]+)`")
# Where a path that a page names may begin: a layer may be named without `src/`.
BASES = ["", "src", "docs"]
FOLDERS = (
    "benches|docs|examples|fuzz|proof|src|tests|"
    "change|crypto|engine|http|memory|model|store|tower"
)
PATH = re.compile(rf"(?:{FOLDERS})/[\w./-]*\.(?:rs|py|sh|toml|txt|md|svg|tsv)")
TEST = re.compile(r"(?:\w+::)+(\w+)")
# What is read before anything else.
DESIGN_LINES_MAX = 400


def tracked(pattern):
    listed = subprocess.run(
        ["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+)$", FENCE.sub("", text), re.M):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


def main():
    pages = {page: (ROOT / page).read_text() for page in tracked("*.md")}
    code = "\n".join((ROOT / file).read_text() for file in tracked("*.rs"))
    functions = set(re.findall(r"\bfn (\w+)", code))
    faults = []
    leads_to = {page: set() for page in pages}
    for page, text in pages.items():
        prose = FENCE.sub("", text)
        for link in LINK.findall(prose):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (ROOT / page.parent / path).resolve() if path else (ROOT / page)
            name = target.relative_to(ROOT)
            if not target.exists():
                faults.append(f"{page}: {link} leads nowhere")
            elif anchor and anchor not in anchors(pages[name]):
                faults.append(f"{page}: {link} has no such heading")
            if name in pages:
                leads_to[page].add(name)
        for named in NAMED.findall(prose):
            if PATH.fullmatch(named) and not any((ROOT / base / named).exists() for base in BASES):
                faults.append(f"{page}: there is no file {named}")
            test = TEST.fullmatch(named)
            # A name of four words or more is a sentence, and so a test's.
            if test and test[1].count("_") >= 3 and test[1] not in functions:
                faults.append(f"{page}: there is no test {named}")
        if re.search(r"^```rust(,no_run)?$", text, re.M) and f'/{page.name}")' not in code:
            faults.append(f"{page}: its snippets are no tests (include_str! in src/lib.rs)")
    if len(pages[Path("docs/DESIGN.md")].splitlines()) > DESIGN_LINES_MAX:
        faults.append(f"docs/DESIGN.md: over {DESIGN_LINES_MAX} lines; cases go to docs/INTERNALS.md")
    seen, ahead = set(), [Path("README.md")]
    while ahead:
        page = ahead.pop()
        if page not in seen:
            seen.add(page)
            ahead.extend(leads_to[page])
    for page in sorted(pages.keys() - seen):
        faults.append(f"{page}: no link leads to it from README.md")
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(pages)} pages: links, files and tests that they name exist")


main()
