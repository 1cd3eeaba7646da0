"""The direction of imports, as the contracts in pyproject.toml state it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# import-linter sees other people's packages as a whole, so parts of Django are looked at here.
OF_EDGES = (
    "django.http",
    "django.shortcuts",
    "django.urls",
    "django.forms",
    "django.template",
    "django_htmx",
)


def imports_below(folder: str) -> Iterator[tuple[str, str]]:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                yield path.relative_to(ROOT).as_posix(), node.module or ""
            elif isinstance(node, ast.Import):
                yield from ((path.relative_to(ROOT).as_posix(), alias.name) for alias in node.names)


def test_arrows_of_the_architecture_hold():
    # In a process of its own: import-linter configures logging so that every logger that is there falls silent, and
    # tests that ask what was logged would then be told that nothing was.
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["models", "actions", "audit", "hubs", "simulator"])
def test_what_is_below_the_edges_knows_no_request_no_page_no_form(folder):
    wrong = [one for one in imports_below(f"enrollments/{folder}") if one[1].startswith(OF_EDGES)]

    assert not wrong


def test_only_the_listener_imports_openssl():
    importing = {
        path
        for folder in ("dpsportal", "enrollments")
        for path, name in imports_below(folder)
        if name == "OpenSSL"
    }

    # worker.py names a type of it, for type checking only.
    assert importing == {"dpsportal/serving/tls.py", "dpsportal/serving/worker.py"}
