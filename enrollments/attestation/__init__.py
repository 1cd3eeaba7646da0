"""Attestation: evidence in, proven identity out. Needs only cryptography and our errors."""
