"""How long devices are told to wait that are refused again and again (R14)."""

# From here on a refused device that does not wait is not judged any more; before, it is merely told.
FREE_REFUSALS = 5
# Above this many refusals the doubling has long reached any limit.
_MOST_DOUBLINGS = 20


def retry_after(refusals: int, *, shortest: int, longest: int) -> int:
    """Whole seconds for the nth refusal in a row: the shortest wait, doubled each time, up to the longest."""
    doublings = min(max(refusals - 1, 0), _MOST_DOUBLINGS)
    return max(shortest, min(shortest << doublings, longest))
