"""The documentation tells the truth: links lead somewhere, and what it names exists."""

import json
import os
import re
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())

FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
VARIABLE = re.compile(r"\b(?:DPS_[A-Z0-9_]+|DATABASE_URL)\b")


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def code(page: Path) -> str:
    return "\n".join(CODE.findall(page.read_text()))


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, punctuation dropped, spaces to hyphens."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings(page)}


def files_of_the_project() -> list[Path]:
    """Every file that is not ignored; without git, which a machine may not have."""
    ignored = {
        line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.endswith("/")
    }
    files: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ignored | {".git"}]
        files += [Path(folder, name) for name in names]
    return files


@EVERY_PAGE
def test_links_lead_to_files_and_headings_that_exist(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    broken = []
    for target in targets:
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        leads_to = (page.parent / path).resolve() if path else page
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            broken.append(target)

    assert broken == []


def variables_read_by_settings() -> set[str]:
    text = (ROOT / "dpsportal" / "settings.py").read_text()
    read = set(re.findall(r'\benv_\w+\(\s*"(\w+)"', text))
    secrets = set(re.findall(r'\benv_secret\(\s*"(\w+)"', text))
    return read | {f"{name}_FILE" for name in secrets}


def variables_read_elsewhere() -> set[str]:
    """By commands at the first start, and by the tests."""
    sources = [*(ROOT / "enrollments" / "management").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    reading = re.compile(r'\benviron(?:\.get\(|\[)"(DPS_\w+)"')
    return {name for source in sources for name in reading.findall(source.read_text())}


def variables_documented() -> set[str]:
    rows = re.findall(r"^\|([^|]+)\|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    return {name for row in rows for name in VARIABLE.findall(row)}


def test_every_variable_that_is_read_is_documented():
    read = variables_read_by_settings()

    assert len(read) > 20
    assert read - variables_documented() == set()


def test_every_documented_variable_is_read():
    assert variables_documented() - variables_read_by_settings() - variables_read_elsewhere() == set()


@EVERY_PAGE
def test_pages_name_no_variable_that_does_not_exist(page):
    assert set(VARIABLE.findall(page.read_text())) - variables_documented() == set()


def test_every_rule_stands_in_the_rules_once_and_in_order():
    rules = [title.split()[0] for title in headings(ROOT / "docs" / "rules.md") if re.match(r"R\d", title)]

    assert rules == [f"R{number}" for number in range(1, 18)]


@pytest.mark.parametrize(
    ("cited", "page", "heading"),
    [
        (r"\b(R\d+)\b", "rules.md", r"^(R\d+) "),
        (r"[Cc]ontract(?:'s shape)? \(?(\d\.\d+)", "contract.md", r"^(\d\.\d+) "),
    ],
    ids=["rules", "contract"],
)
def test_what_the_code_cites_is_documented(cited, page, heading):
    sources = [*(ROOT / "enrollments").rglob("*.py"), *(ROOT / "dpsportal").rglob("*.py")]
    named = {number for source in sources for number in re.findall(cited, source.read_text())}
    known = {match[1] for title in headings(ROOT / "docs" / page) if (match := re.match(heading, title))}

    assert named
    assert named - known == set()


@EVERY_PAGE
def test_commands_on_a_page_exist(page):
    named = set(re.findall(r"(?:manage\.py|\bdps) ([a-z]\w*)", code(page)))

    assert named - set(get_commands()) == set()


@EVERY_PAGE
def test_make_targets_on_a_page_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", code(page))) - targets == set()


def test_the_commands_that_matter_are_documented():
    written = "\n".join(map(code, PAGES))
    ours = {name for name, app in get_commands().items() if app == "enrollments"} - {"demo_fleet"}

    assert {name for name in ours if not re.search(rf"\b{name}\b", written)} == set()


def test_the_project_speaks_of_itself_alone():
    """No paths of anybody's machine, and no files that are not part of the project."""
    # In two pieces each, so that this file does not name what it looks for.
    foreign = re.compile(
        "|".join(
            [
                r"(?<![\w.])/" + r"work\b",
                r"\b(?:seman" + r"tics|inter" + r"face|house-" + r"style|feasi" + r"bility)\.md\b",
                r"\bdps-con" + r"tract\b",
                r"\bissues? " + r"(?:show|#?\d)",
            ]
        )
    )
    vendored = ROOT / "static" / "vendor"
    found = []
    for path in files_of_the_project():
        if vendored in path.parents or b"\0" in (content := path.read_bytes())[:8000]:
            continue
        text = content.decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in foreign.finditer(text)]

    assert found == []


@pytest.mark.parametrize(("folder", "kind"), [("sdk", "dependencies"), ("e2e", "devDependencies")])
def test_packages_of_node_are_pinned_and_their_lock_names_no_host(folder, kind):
    folder = ROOT / "tests" / folder
    asked = json.loads((folder / "package.json").read_text())[kind]
    text = (folder / "package-lock.json").read_text()
    locked = {path: entry for path, entry in json.loads(text)["packages"].items() if path}

    assert {name: locked[f"node_modules/{name}"]["version"] for name in asked} == asked
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", entry["version"]) for entry in locked.values())
    assert all(entry["integrity"].startswith("sha512-") for entry in locked.values())
    assert "://" not in text
