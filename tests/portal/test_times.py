"""Times are written in one way: to the second wherever a sentence tells one, to the minute in columns of lists."""

import re
from pathlib import Path

from django.conf import settings

ROOT = Path(settings.BASE_DIR)
# A moment that a sentence goes on after with its zone, and a time that Python writes into one.
_OF_TEMPLATES = re.compile(r'\{% include "portal/_moment.html" with (?:(?!seconds=True)[^%])* only %\} UTC')
_OF_PYTHON = re.compile(r":%H:%M\} UTC|%Y-%m-%d %H:%M\} UTC")


def test_sentences_tell_times_to_the_second():
    templates = (ROOT / "templates").rglob("*.html")
    modules = (ROOT / "enrollments").rglob("*.py")
    found = [(path.name, one) for path in templates for one in _OF_TEMPLATES.findall(path.read_text())]
    found += [(path.name, one) for path in modules for one in _OF_PYTHON.findall(path.read_text())]

    assert found == []
