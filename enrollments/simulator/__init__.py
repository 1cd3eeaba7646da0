"""Simulated devices: a client of the device API like any other, over real TLS with real credentials."""
