"""Everybody's own account: their roles and API tokens, and who came and went under their name."""

from django.db.models import prefetch_related_objects
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from enrollments.actions.people import role_in
from enrollments.actions.sign_in_failures import windows_without_a_row
from enrollments.policy.roles import Right
from enrollments.portal.access import for_every_person, person
from enrollments.portal.account import newest_about, own_places, own_rows
from enrollments.portal.views.services import visible_services

SHOWN = 20
SHOWN_WINDOWS = 10


@require_safe
@for_every_person
def account(request: HttpRequest) -> HttpResponse:
    user = person(request)
    everywhere = role_in(user, None)
    prefetch_related_objects([user], "memberships")  # asked for twice below
    roles = visible_services(user, everywhere)
    events = newest_about(user, (service.pk for service in roles), SHOWN + 1)
    windows = windows_without_a_row(user, SHOWN_WINDOWS + 1)
    rights = everywhere.rights if everywhere else frozenset()
    context = {
        "places": own_places(user, roles, everywhere),
        "rows": own_rows(user, events[:SHOWN], roles, everywhere),
        "shown": SHOWN,
        "has_more": len(events) > SHOWN,
        "windows": windows[:SHOWN_WINDOWS],
        "has_more_windows": len(windows) > SHOWN_WINDOWS,
        "may_see_acts": Right.SEE in rights,
        "may_see_changes": Right.SEE_HISTORY in rights,
    }
    return render(request, "portal/people/account.html", context)
