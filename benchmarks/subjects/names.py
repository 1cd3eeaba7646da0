"""The subjects by name. Their modules import models, which need settings: they are found when they are asked for."""

from collections.abc import Callable
from functools import partial
from importlib import import_module

from benchmarks.installation import Bench
from benchmarks.measure import Part

Subject = Callable[[Bench], Part]


def _subject(module: str, name: str) -> Subject:
    found: Subject = getattr(import_module(f"benchmarks.subjects.{module}"), name)
    return found


SUBJECTS: dict[str, Callable[[], Subject]] = {
    name: partial(_subject, module, name)
    for name, module in {
        "tpm_challenges": "tpm_challenges",
        "sas_tokens": "sas_tokens",
        "bodies": "bodies",
        "registrations": "registrations",
        "refusals": "refusals",
        "evidence": "evidence",
        "previews": "previews",
        "history": "history",
        "history_pages": "history_pages",
        "past": "past",
        "many_entries": "many_entries",
        "queries": "many_entries",
    }.items()
}
