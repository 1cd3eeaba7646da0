"""Rates and back-off: what the processes of one node, or of all, remember together of how often devices came."""

from enrollments.throttling.limits import BackOff, Caller, Limiter, Refused, limiter

__all__ = ["BackOff", "Caller", "Limiter", "Refused", "limiter"]
