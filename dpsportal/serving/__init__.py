"""How dpsportal meets the network: gunicorn's settings, its worker, and TLS. No rule of ours lives here."""
