"""Calling a command as a test does: what it printed, or how it was refused."""

import json
import sys
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError


def printed_by(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def json_of(*command: str) -> Any:
    return json.loads(printed_by(*command, "--json"))


def refused_with_words(*command: str) -> tuple[int, str, str]:
    """Exit code, what it printed before, and its sentence."""
    out = StringIO()
    with pytest.raises(CommandError) as refused:
        call_command(*command, stdout=out)
    return refused.value.returncode, out.getvalue(), str(refused.value)


def refusal_of(*command: str) -> tuple[int, str]:
    """Exit code and sentence."""
    with pytest.raises(CommandError) as refused:
        printed_by(*command)
    return refused.value.returncode, str(refused.value)


def answering(monkeypatch: pytest.MonkeyPatch, text: str, *, is_terminal: bool = True) -> None:
    """What somebody types, or a program gives."""
    given = StringIO(text)
    given.isatty = lambda: is_terminal  # type: ignore[method-assign]  # it is no file, and has none
    monkeypatch.setattr(sys, "stdin", given)
