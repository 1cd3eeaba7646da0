"""What is measured at each number of enrollments."""

from benchmarks.scale.pages import pages
from benchmarks.scale.registrations import registrations
from benchmarks.scale.storms import storms

SUBJECTS = {"scale_registrations": registrations, "scale_storms": storms, "scale_pages": pages}
