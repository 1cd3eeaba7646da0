"""Two pages for the listeners under test."""

import time

from django.http import HttpRequest, JsonResponse
from django.urls import path


def who(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {
            "listener": request.META["dps.listener"],
            "certificates": len(request.META["dps.peer_certificates"]),
            "secure": request.is_secure(),
            "peer": request.META["REMOTE_ADDR"],
            "body": len(request.body),
        }
    )


def slow(request: HttpRequest) -> JsonResponse:
    time.sleep(2)
    return who(request)


urlpatterns = [path("who", who), path("slow", slow)]
