"""Lines of the log: JSON, one each, and each with the ID of the request that it belongs to."""

import json
import logging

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from dpsportal.request_log import JsonLineFormatter, RequestLogMiddleware


def line_of(message):
    return json.loads(
        JsonLineFormatter().format(logging.LogRecord("enrollments", 30, "", 0, message, (), None))
    )


def test_whatever_is_logged_while_a_request_is_answered_has_its_id():
    lines = []

    def answer(request):
        lines.append((request.request_id, line_of("the webhook was slow")))
        return HttpResponse()

    response = RequestLogMiddleware(answer)(RequestFactory().get("/"))

    ((request_id, line),) = lines
    assert line["request_id"] == request_id == response.headers["X-Request-ID"]
    assert line["message"] == "the webhook was slow"


def test_afterwards_lines_belong_to_no_request_also_where_it_failed():
    def fail(request):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        RequestLogMiddleware(fail)(RequestFactory().get("/"))

    assert "request_id" not in line_of("sealing")
