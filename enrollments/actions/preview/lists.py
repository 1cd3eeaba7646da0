"""What a list of changes would do to the devices that are known, however long the list is.

Individual enrollments are decided about on values (`planned.py`), in portions, and nothing is locked meanwhile. What
can lie above devices, groups above all, is asked of the decision itself: those few lines are rehearsed, and `near.py`
says which they are.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from enrollments.actions.attempts_certificates import Came, looked_at_from, shown_at_attempts
from enrollments.actions.attempts_keys import Signed, keys_at_attempts
from enrollments.actions.key_identifiers import secret_read_once
from enrollments.actions.preview.above import look_at_all
from enrollments.actions.preview.deciding import Deciding
from enrollments.actions.preview.effects import Preview
from enrollments.actions.preview.limits import Limits, at_a_glance
from enrollments.actions.preview.looking import Time
from enrollments.actions.preview.loose import by_place
from enrollments.actions.preview.near import lines_above
from enrollments.actions.preview.planned import Portions, read_plan
from enrollments.actions.preview.progress import Tell, tell_nobody
from enrollments.actions.preview.sent_along import Then, looked_at_twice
from enrollments.actions.schedule import standing_now
from enrollments.actions.times_to_come import NO_TIMES, TimesToCome, times_to_come
from enrollments.collecting import without_collecting
from enrollments.models import ProvisioningService
from enrollments.models.switches import NO_TIME


def preview_of_list(
    service: ProvisioningService,
    portions: Portions,
    limits: Limits | None = None,
    came: Mapping[str, Sequence[Came]] | None = None,
    signed: Mapping[str, Sequence[Signed]] | None = None,
    tell: Tell = tell_nobody,
    *,
    at: datetime | None = None,
) -> Preview:
    """As if all of it were carried out that would not be refused. Raises SecretUnreadable.

    at: what is decided at that time to come, with all that is scheduled until then, by the list too; instead of now.

    limits: as much as can be told at a glance, unless it is said.
    came, signed: shown_at_attempts, for the same time, and keys_at_attempts, where these were asked for.
    tell: of looking and judging; the portions are read by whoever gives them. What it raises ends the preview.
    """
    limits = limits or at_a_glance()
    time = Time.of(at)
    if came is None:
        came = shown_at_attempts(service, limits.attempts, at=time.at)
    if signed is None:
        signed = keys_at_attempts(service, limits.attempts)
    with secret_read_once(), without_collecting():
        standing = standing_now(service)  # what is due by now is no part of the change
        as_of = time.as_of(standing)
        plan = read_plan(service, portions, as_of, by_place(came), signed)
        lines = lines_above(service, plan, portions)

        def look(then: Then) -> Preview:
            looking = look_at_all(service, plan, lines, time, limits, tell, then)
            deciding = Deciding(service, plan, portions, looking, time, as_of, tell)
            devices = tuple(deciding.devices())
            times = NO_TIMES
            if at not in NO_TIME:
                groups = looking.looked.touched.group_pks
                times = times_to_come(service, standing, plan.individuals, groups, after=at)
                times = times.joined(TimesToCome(beginning=plan.beginning))
            out_until = next(iter(times.letting_in), None)
            since = looked_at_from(service, limits.attempts)
            return Preview(standing.epoch, devices, deciding.beyond, out_until, since, times)

        return looked_at_twice(service, look, limits)
