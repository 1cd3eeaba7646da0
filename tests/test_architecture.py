"""The direction of imports, as the contracts in pyproject.toml state it."""

import ast
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent


def test_arrows_of_the_architecture_hold(monkeypatch):
    monkeypatch.chdir(ROOT)

    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS


def test_only_the_listener_imports_openssl():
    importing = {
        path.relative_to(ROOT).as_posix()
        for folder in ("dpsportal", "enrollments")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "OpenSSL"
    }

    assert importing
    assert all(path.startswith("dpsportal/serving/") for path in importing)
