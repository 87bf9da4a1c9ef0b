"""How two programs that speak OpenFaaS's API differ in what they do:
faas-netes on Kubernetes, and faasd on one host.
"""

from msgspec import Struct


class Manner(Struct, frozen=True):
    """What one of them answers, and what it does, where they are not alike.

    `keeps_old` says whether the version that answers goes on until the one after it is ready, or is removed before that
    one is started.
    """

    name: str
    keeps_old: bool
    made_twice: int
    faulty_change: int
    unpullable_make: int
    absent_secret: int
    lost_settings: frozenset[str]


MANNERS = {
    manner.name: manner
    for manner in (
        Manner(
            name="faas-netes",
            keeps_old=True,
            made_twice=409,
            # Its handler answers 200 for every error of a change but that the function is not there, and changes
            # nothing.
            faulty_change=200,
            unpullable_make=202,
            absent_secret=404,
            lost_settings=frozenset(),
        ),
        Manner(
            name="faasd",
            keeps_old=False,
            made_twice=500,
            faulty_change=500,
            unpullable_make=500,
            absent_secret=500,
            lost_settings=frozenset({"fprocess"}),
        ),
    )
}
