"""What is measured: a file per subject, each with a function from the installation to figures and ratios."""

from benchmarks.subjects.bodies import bodies
from benchmarks.subjects.evidence import evidence
from benchmarks.subjects.history import history
from benchmarks.subjects.history_pages import history_pages
from benchmarks.subjects.many_entries import many_entries, queries
from benchmarks.subjects.past import past
from benchmarks.subjects.previews import previews
from benchmarks.subjects.refusals import refusals
from benchmarks.subjects.registrations import registrations
from benchmarks.subjects.sas_tokens import sas_tokens
from benchmarks.subjects.tpm_challenges import tpm_challenges

SUBJECTS = (
    tpm_challenges,
    sas_tokens,
    bodies,
    registrations,
    refusals,
    evidence,
    previews,
    history,
    history_pages,
    past,
    many_entries,
    queries,
)
