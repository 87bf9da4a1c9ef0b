"""How many examples a property gets, by hypothesis's profile (`--hypothesis-profile`).

* none: a few, the same in every run;
* `thorough`, which is `make properties`: many, new ones in every run; the report says how to get one again;
* `unshrunk`: the same few, and the first that fails is the last, for whoever wants to know only whether one does.
"""

from collections.abc import Callable

from hypothesis import HealthCheck, Phase, settings

THOROUGH, UNSHRUNK = "thorough", "unshrunk"
SLOW_BY_NATURE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


def is_thorough() -> bool:
    """Say whether this run is the long one."""
    return settings.get_current_profile_name() == THOROUGH


def is_long() -> bool:
    """Say whether this run, or the one that started it, is the long one: it tries also what takes minutes."""
    return settings.get_current_profile_name() in {THOROUGH, UNSHRUNK}


def budget(few: int, many: int, *, shrink: bool = True) -> Callable:
    """Return the settings of a property; without `shrink` where an example takes seconds."""
    profile = settings.get_current_profile_name()
    left_out = {Phase.explain} if shrink and profile != UNSHRUNK else {Phase.explain, Phase.shrink}
    phases = [phase for phase in Phase if phase not in left_out]
    always = settings(deadline=None, report_multiple_bugs=False, suppress_health_check=SLOW_BY_NATURE, phases=phases)
    if profile == THOROUGH:
        return settings(always, max_examples=many, print_blob=True)
    return settings(always, max_examples=few, derandomize=True, database=None)
