"""`python -m benchmarks.long_history`: an installation with a long history, in a process of its own.

Apart from the others, whose figures would grow with its rows. It reads a question per line and answers with one of
JSON: `page QUERY` and `export QUERY` ask the portal as a browser does, and tell what that cost this process.
"""

import argparse
import json
import logging
import os
import resource
import sys
import time

MIB = 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    given = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "dpsportal.settings"
    import django

    django.setup()
    logging.disable(logging.CRITICAL)
    from django.conf import settings
    from django.core.management import call_command

    # Without the middleware that writes a line per request, and the files of the pages, which nobody loads here.
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    call_command("migrate", verbosity=0)
    _answer(_client(given.rows))


def _client(rows: int):  # type: ignore[no-untyped-def]  # django has to be set up before it can be named
    from django.test import Client

    from enrollments.actions.people import add_person
    from enrollments.actions.services import add_service
    from enrollments.audit.sealer import seal_everything
    from enrollments.policy.roles import Role
    from tests.audit.histories import fill
    from tests.devices import ALICE

    service = add_service("plant", actor=ALICE)
    user, _ = add_person("auditor", role=Role.AUDITOR, service=None, actor=ALICE)
    # Three of five rows are the service's own, one is another one's, one is nobody's.
    fill(rows, service_ids=(service.pk, service.pk, service.pk, service.pk + 1000, None))
    seal_everything()
    client = Client()
    client.force_login(user)
    return client


def _answer(client) -> None:  # type: ignore[no-untyped-def]  # the same
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        what, _, query = line.strip().partition(" ")
        path = "/services/plant/history/" + ("export/" if what == "export" else "")
        wall, cpu = time.perf_counter(), time.process_time()
        answer = client.get(f"{path}?{query}")
        size = sum(map(len, answer.streaming_content)) if answer.streaming else len(answer.content)
        told = {
            "status": answer.status_code,
            "bytes": size,
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // MIB,
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
