"""What a registration is held against: two bare Django views behind the same listener, over the same database.

The listener is the device listener itself, with `benchmarks.ceiling.settings` in place of the product's: the same
gunicorn, worker, threads, TLS and log line. The views answer at the addresses of a registration, so that the same
client asks both in the same words.
"""
