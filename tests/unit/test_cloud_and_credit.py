"""Site data that name the line where they are wrong, and what a core hour is worth."""

from hashlib import sha256
from pathlib import Path

import pytest

from skytally import cloud, credit
from skytally.documents import BootBenchmark
from skytally.errors import Forbidden
from skytally.records import Caller
from skytally.statement import worth

EXAMPLE = Path(cloud.__file__).parent / "data" / "clouds.example.toml"


def test_the_example_is_read():
    site = cloud.parse(EXAMPLE.read_text())
    assert site.cloud("uvic").currency == "CAD"
    assert site.cloud("research cloud 2").pue == 1.5
    assert site.cloud("nobody knows").price_per_core_hour is None
    assert site.calibration.kernels == {"zbs": 1.58}


WRONG = {
    "no toml": ("[clouds.a\n", "line 1"),
    "an unknown table": ("[cloud.a]\n", "line 1, cloud: there is no table"),
    "an unknown field": ("[clouds.a]\nowner = 'x'\nprise = 1\n", "line 3, clouds.a.prise"),
    "text for a number": ("\n[clouds.b]\n[clouds.a]\nwatts_per_core = '9'\n", "line 4, clouds.a.watts_per_core"),
    "a negative price": ("[clouds.'a b']\nprice_per_core_hour = -1\ncurrency = 'EUR'\n", "line 2, clouds.a b.price_per_core_hour"),
    "a price without currency": ("[clouds.a]\nprice_per_core_hour = 1\n", "line 2, clouds.a.price_per_core_hour"),
    "a currency that is none": ("[clouds.a]\ncurrency = 'euro'\n", "line 2, clouds.a.currency"),
    "a pue below one": ("[clouds.a]\npue = 0.9\n", "line 2, clouds.a.pue"),
    "a factor of zero": ("[calibration]\nkernels = { zbs = 0 }\n", "line 2, calibration.kernels"),
    "a token in the open": ("[deny]\ntokens = ['eyJ']\n", "line 2, deny.tokens"),
    "a cloud that is no table": ("[clouds]\na = 1\n", "clouds.a"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(name):
    text, words = WRONG[name]
    with pytest.raises(cloud.BrokenSiteData) as broken:
        cloud.parse(text)
    assert words in broken.value.reason
    assert broken.value.code == "unavailable"


def test_who_is_shut_out():
    site = cloud.parse(f"[deny]\nvms = ['uvic/bad']\ntokens = ['{sha256(b'leaked').hexdigest()}']\n")
    good = Caller(role="reporter", issued=0, expires=0, clouds=("uvic",), vm="good")
    site.check(good, "token")
    bad = Caller(role="reporter", issued=0, expires=0, clouds=("uvic",), vm="bad")
    for caller, token in ((bad, "token"), (good, "leaked")):
        with pytest.raises(Forbidden):
            site.check(caller, token)
    site.check(Caller(role="reporter", issued=0, expires=0, clouds=("cern",), vm="bad"), "token")


def test_worth():
    known = cloud.Cloud(price_per_core_hour=0.02, currency="EUR", watts_per_core=10.0, pue=1.5, co2_grams_per_kwh=100.0)
    assert worth(1_000.0, known) == {"energy_kwh": 15.0, "co2_kg": 1.5, "cost": 20.0, "currency": "EUR"}
    assert set(worth(1_000.0, cloud.Cloud()).values()) == {None}
    assert worth(0.0, known)["cost"] == 0.0


def benchmark(boot_id, *, flavor="c8", **fields):
    blank = dict.fromkeys(BootBenchmark.__struct_fields__)
    return BootBenchmark(**blank | {"boot_id": boot_id, "cloud": "uvic", "flavor": flavor, "kernel": "zbs"} | fields)


def test_a_score_is_hs23_where_anybody_says_how():
    site = cloud.parse("[calibration]\nkernels = { zbs = 1.5 }\ncpu_models = { fast = 20.0 }\n")
    assert credit.hs23(benchmark("a", score_hs23=15.0, score_wall=99.0), site) == 15.0
    assert credit.hs23(benchmark("b", score_wall=10.0, score_cpu=12.0), site) == 15.0
    assert credit.hs23(benchmark("c", score_cpu=12.0), site) == 18.0
    assert credit.hs23(benchmark("d", score_wall=10.0, cpu_model="fast"), site) == 20.0
    assert credit.hs23(benchmark("e", kernel="DB12", score_wall=10.0), site) is None


def test_a_score_far_from_its_flavor_is_in_quarantine_until_confirmed():
    benchmarks = [
        benchmark(name, score_hs23=score) for name, score in (("a", 14.0), ("b", 15.0), ("c", 16.0), ("high", 60.0), ("low", 2.0))
    ]
    benchmarks += [benchmark("alone", flavor="c64", score_hs23=90.0), None]
    found = credit.scores(benchmarks, cloud.Site())
    assert {name: (s.hs23, s.quarantined) for name, s in found.items()} == {
        "a": (14.0, False),
        "b": (15.0, False),
        "c": (16.0, False),
        "high": (15.0, True),
        "low": (15.0, True),
        "alone": (90.0, False),
    }
    confirmed = cloud.parse("[benchmarks]\nconfirmed_boots = ['high']\n")
    assert credit.scores(benchmarks, confirmed)["high"] == credit.Score(60.0, quarantined=False)
