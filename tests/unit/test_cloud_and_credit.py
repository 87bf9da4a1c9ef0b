"""Site data that name the line where they are wrong, and what a core hour is worth."""

from pathlib import Path

import pytest

from skytally.access.tokens import digest_of
from skytally.accounting import hs23
from skytally.accounting.hs23 import Rule, Score
from skytally.accounting.statement_rows import MS_PER_HOUR, worth
from skytally.core import site_data
from skytally.core.documents import BootBenchmark
from skytally.core.errors import Forbidden
from skytally.core.records import Caller

EXAMPLE = Path(site_data.__file__).parents[1] / "data" / "clouds.example.toml"


def test_the_example_is_read():
    site = site_data.parse(EXAMPLE.read_text())
    assert site.cloud("uvic").currency == "CAD"
    assert site.cloud("research cloud 2").pue == 1.5
    assert site.cloud("nobody knows").price_per_core_hour is None
    assert site.calibration.kernels == {"zbs": 1.58}


WRONG = {
    "nothing": ("", "the whole file"),
    "nothing but a remark": ("# moved\n", "the whole file"),
    "no toml": ("[clouds.a\n", "line 1"),
    "an unknown table": ("[cloud.a]\n", "line 1, cloud: there is no table"),
    "an unknown field": ("[clouds.a]\nowner = 'x'\nprise = 1\n", "line 3, clouds.a.prise"),
    "text for a number": ("\n[clouds.b]\n[clouds.a]\nwatts_per_core = '9'\n", "line 4, clouds.a.watts_per_core"),
    "a negative price": (
        "[clouds.'a b']\nprice_per_core_hour = -1\ncurrency = 'EUR'\n",
        "line 2, clouds.a b.price_per_core_hour",
    ),
    "a price without currency": ("[clouds.a]\nprice_per_core_hour = 1\n", "line 2, clouds.a.price_per_core_hour"),
    "a currency that is none": ("[clouds.a]\ncurrency = 'euro'\n", "line 2, clouds.a.currency"),
    "a pue below one": ("[clouds.a]\npue = 0.9\n", "line 2, clouds.a.pue"),
    "a factor of zero": ("[calibration]\nkernels = { zbs = 0 }\n", "line 2, calibration.kernels"),
    "a token in the open": ("[deny]\ntokens = ['eyJ']\n", "line 2, deny.tokens"),
    "bounds the wrong way round": (
        "[benchmarks]\nhighest_hs23_per_core = 9\nlowest_hs23_per_core = 10\n",
        "line 3, benchmarks.lowest_hs23_per_core: the lowest score, 10.0, is above the highest, 9.0",
    ),
    "a highest below the lowest that counts without one": (
        "[benchmarks]\nhighest_hs23_per_core = 0.5\n",
        "line 2, benchmarks.highest_hs23_per_core: the lowest score, 1.0, is above the highest, 0.5",
    ),
    "a cloud that is no table": ("[clouds]\na = 1\n", "clouds.a"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(name):
    text, words = WRONG[name]
    with pytest.raises(site_data.BrokenSiteData) as broken:
        site_data.parse(text)
    assert words in broken.value.reason
    assert broken.value.code == "unavailable"


def test_who_is_shut_out():
    site = site_data.parse(f"[deny]\nvms = ['uvic/bad']\ntokens = ['{digest_of('leaked')}']\n")
    good = Caller(role="reporter", issued=0, expires=0, clouds=("uvic",), vm="good")
    site.check(good, digest_of("token"))
    bad = Caller(role="reporter", issued=0, expires=0, clouds=("uvic",), vm="bad")
    for caller, token in ((bad, "token"), (good, "leaked")):
        with pytest.raises(Forbidden):
            site.check(caller, digest_of(token))
    site.check(Caller(role="reporter", issued=0, expires=0, clouds=("cern",), vm="bad"), digest_of("token"))


def test_worth():
    known = site_data.Cloud(
        price_per_core_hour=0.02, currency="EUR", watts_per_core=10.0, pue=1.5, co2_grams_per_kwh=100.0
    )
    assert worth(1_000 * MS_PER_HOUR, known) == {"energy_kwh": 15.0, "co2_kg": 1.5, "cost": 20.0, "currency": "EUR"}
    assert set(worth(1_000 * MS_PER_HOUR, site_data.Cloud()).values()) == {None}
    assert worth(0, known)["cost"] == 0.0


def benchmark(boot_id, *, flavor="c8", **fields):
    blank = dict.fromkeys(BootBenchmark.__struct_fields__)
    return BootBenchmark(**blank | {"boot_id": boot_id, "cloud": "uvic", "flavor": flavor, "kernel": "zbs"} | fields)


def test_a_score_is_hs23_where_anybody_says_how():
    site = site_data.parse("[calibration]\nkernels = { zbs = 1.5 }\ncpu_models = { fast = 20.0 }\n")
    assert hs23.own_score(benchmark("a", score_hs23=15.0, score_wall=99.0), site) == Score(15.0, Rule.REPORTED)
    assert hs23.own_score(benchmark("b", score_wall=10.0, score_cpu=12.0), site) == Score(15.0, Rule.KERNEL)
    assert hs23.own_score(benchmark("c", score_cpu=12.0), site) == Score(18.0, Rule.KERNEL)
    assert hs23.own_score(benchmark("d", score_wall=10.0, cpu_model="fast"), site) == Score(20.0, Rule.CPU_MODEL)
    assert hs23.own_score(benchmark("e", kernel="DB12", score_wall=10.0), site) == hs23.UNSCORED


def judged(*benchmarks, site="[clouds]"):
    found = hs23.scores(benchmarks, site_data.parse(site))
    return {name: (score.hs23, score.rule) for name, score in found.items()}


USUAL = [benchmark(name, score_hs23=score) for name, score in (("a", 14.0), ("b", 15.0), ("c", 16.0))]


@pytest.mark.parametrize("score", [60.0, 2.0, 2_250.0, 0.01])
def test_a_score_far_from_its_peers_is_in_quarantine_until_confirmed(score):
    odd = benchmark("odd", score_hs23=score)
    found = judged(*USUAL, odd, None)
    assert found.pop("odd") == (15.0 if score > 60 or score < 1 else 14.5 if score == 2.0 else 15.5, Rule.MEDIAN)
    assert found == {"a": (14.0, Rule.REPORTED), "b": (15.0, Rule.REPORTED), "c": (16.0, Rule.REPORTED)}
    assert judged(*USUAL, odd, site="[benchmarks]\nconfirmed_boots = ['odd']\n")["odd"] == (score, Rule.CONFIRMED)


def test_a_score_without_peers_counts_within_the_bounds_alone():
    assert judged(benchmark("alone", score_hs23=59.0)) == {"alone": (59.0, Rule.REPORTED)}
    assert judged(benchmark("a", score_hs23=2_250.0), benchmark("b", score_hs23=0.5, flavor=None)) == {
        "a": (None, Rule.OUT_OF_BOUNDS),
        "b": (None, Rule.OUT_OF_BOUNDS),
    }
    bounds = "[benchmarks]\nlowest_hs23_per_core = 10\nhighest_hs23_per_core = 20\n"
    assert judged(benchmark("alone", score_hs23=59.0), site=bounds) == {"alone": (None, Rule.OUT_OF_BOUNDS)}
    assert judged(benchmark("alone", score_hs23=59.0), site=f"{bounds}confirmed_boots = ['alone']\n") == {
        "alone": (59.0, Rule.CONFIRMED)
    }


def test_scores_that_cannot_be_are_nobody_s_peers():
    absurd = [benchmark(f"{n}", score_hs23=2_250.0) for n in range(9)]
    assert judged(*USUAL, *absurd) == {
        **{one.boot_id: (one.score_hs23, Rule.REPORTED) for one in USUAL},
        **{one.boot_id: (15.0, Rule.MEDIAN) for one in absurd},
    }


def test_a_faster_kind_of_machine_is_not_judged_by_the_slower_ones_of_its_flavor():
    slow = [benchmark(f"slow {n}", cpu_model="slow", copies=8, score_hs23=8.0) for n in range(9)]
    fast = benchmark("fast", cpu_model="fast", copies=8, score_hs23=20.0)
    assert judged(*slow, fast)["fast"] == (20.0, Rule.REPORTED)
    other_size = [benchmark(f"fast {n}", flavor="c64", cpu_model="fast", copies=64, score_hs23=16.0) for n in range(3)]
    lie = benchmark("lie", cpu_model="fast", copies=8, score_hs23=50.0)
    found = judged(*slow, fast, *other_size, lie)
    assert found["fast"] == (20.0, Rule.REPORTED)
    assert found["lie"] == (16.0, Rule.MEDIAN), "of its model there are four others, whatever their size"


def test_what_the_site_says_of_a_cpu_model_needs_no_peers():
    site = "[calibration]\ncpu_models = { fast = 90.0 }\n"
    slow = [benchmark(f"{n}", cpu_model="fast", score_hs23=15.0) for n in range(3)]
    assert judged(*slow, benchmark("model", cpu_model="fast", score_wall=1.0), site=site)["model"] == (
        90.0,
        Rule.CPU_MODEL,
    )


def test_an_oversized_factor_of_the_site_s_own_gives_no_credit_without_bounds():
    site = "[calibration]\nkernels = { zbs = 158.0 }\n"
    assert judged(benchmark("a", score_wall=10.0), site=site) == {"a": (None, Rule.OUT_OF_BOUNDS)}
