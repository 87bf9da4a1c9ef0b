"""Outcomes: what became of a job, in one of a few words for PanDA and DIRAC.

What people or servers killed is cancelled or closed, and no failure. A job that goes on, or that DIRAC does not know
any more, is `other`.
"""

OTHER = "other"
# The statuses of final jobs, by their outcome.
STATUSES: dict[str, tuple[str, ...]] = {
    "finished": ("finished", "subfinished", "Done", "Completed"),
    "failed": ("failed", "Failed"),
    "cancelled": ("cancelled", "Killed"),
    "closed": ("closed",),
    OTHER: ("unknown_to_dirac",),
}
OUTCOMES = tuple(STATUSES)
_OUTCOME_OF = {status: outcome for outcome, statuses in STATUSES.items() for status in statuses}


def outcome_of(status: str, *, is_final: bool) -> str:
    """Return the outcome of a job with this status."""
    return _OUTCOME_OF.get(status, OTHER) if is_final else OTHER
