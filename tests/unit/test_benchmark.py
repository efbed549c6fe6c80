"""What the benchmark makes of its samples: figures, verdicts, table and picture."""

from __future__ import annotations

import json
import math
import sys
from array import array
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcache_django.benchmark import (
    contenders,
    faults,
    figures,
    goals,
    layout,
    machine,
    outcomes,
    rings,
    scenarios,
    svg,
    table,
    trial,
)
from distcache_django.benchmark.contenders import C_CLIENT, OURS_MANY, OURS_ONE
from distcache_django.benchmark.contest import Plan, interleave
from distcache_django.core.ring import HashRing


def make_round(*samples: int, wall_ns: int | None = None, calls: int | None = None) -> figures.Round:
    return figures.Round(array("Q", samples), wall_ns or sum(samples), 1000, calls or len(samples))


def make_summary(p50_us: float) -> figures.Summary:
    names = ("p50_us", "p50_low_us", "p50_high_us", "p95_us", "p99_us", "max_us")
    rates = dict.fromkeys(("ops_per_s", "ops_low", "ops_high"), 1e6 / p50_us)
    times = dict.fromkeys(names, p50_us)
    return figures.Summary(4, 2, cpu_us=1.0, round_p50_us=(p50_us, p50_us), **times, **rates)


def make_report(**results: dict[str, figures.Summary]) -> dict[str, object]:
    place = machine.Placement("same", (1,), (1,)).as_dict()
    place["results"] = {
        name: {
            who: {field: getattr(one, field) for field in figures.Summary.__dataclass_fields__}
            for who, one in each.items()
        }
        for name, each in results.items()
    }
    place["failures"] = {name: {} for name in results}
    place["comparisons"] = goals.compare(results, "same")
    return {
        "schema": "distcache-benchmark/1",
        "suite": "ops",
        "command": "distcache benchmark ops",
        "started": "2026-11-01T00:00:00+00:00",
        "seed": 7,
        "quick": False,
        "revision": None,
        "server": "valkey 9.1.2",
        "machine": machine.describe_machine(),
        "load_average_after": machine.load_average(),
        "contenders": [],
        "placements": [place],
    }


class TestFigures:
    def test_percentile_is_the_nearest_rank(self) -> None:
        ordered = list(range(1, 101))
        assert figures.percentile(ordered, 0.50) == 50
        assert figures.percentile(ordered, 0.99) == 99
        assert figures.percentile(ordered, 1.0) == 100
        assert figures.percentile(ordered, 0.0) == 1
        assert figures.percentile([7], 0.99) == 7

    @pytest.mark.parametrize(("ordered", "fraction"), [([], 0.5), ([1], 1.5), ([1], -0.1)])
    def test_percentile_of_nothing_or_beyond_the_ends_is_refused(self, ordered: list[int], fraction: float) -> None:
        with pytest.raises(ValueError, match="percentile"):
            figures.percentile(ordered, fraction)

    @given(st.lists(st.integers(0, 10**9), min_size=1), st.floats(0, 1))
    def test_percentile_is_a_sample_with_its_share_at_or_below(self, samples: list[int], fraction: float) -> None:
        found = figures.percentile(sorted(samples), fraction)
        assert found in samples
        assert sum(sample <= found for sample in samples) >= fraction * len(samples) - 1e-6 * len(samples)

    def test_summary_takes_percentiles_of_all_samples_and_the_median_of_rates(self) -> None:
        rounds = [
            make_round(1000, 2000, 3000, wall_ns=6000),
            make_round(4000, 5000, 6000, wall_ns=30000),
            make_round(7000, 8000, 90000, wall_ns=300000),
        ]
        summary = figures.summarize(rounds)
        assert (summary.samples, summary.rounds) == (9, 3)
        assert (summary.p50_us, summary.p99_us, summary.max_us) == (5.0, 90.0, 90.0)
        assert summary.ops_per_s == pytest.approx(100_000)
        assert summary.round_p50_us == (2.0, 5.0, 8.0)
        assert (summary.p50_low_us, summary.p50_high_us) == (3.5, 6.5)

    def test_ratio_says_how_many_times_as_long_theirs_takes(self) -> None:
        assert figures.ratio(30.0, 10.0) == 3.0
        assert figures.ratio(30.0, 0.0) == math.inf


class TestInterleaving:
    class Recorder:
        def __init__(self, name: str, log: list[str]) -> None:
            self.name, self.log = name, log

        def run(self, calls: int) -> figures.Round:
            self.log.append(self.name)
            return figures.Round([1000] * calls, calls * 1000, None, calls)

    def order_of_rounds(self, seed: int) -> list[str]:
        log: list[str] = []
        runners = {name: self.Recorder(name, log) for name in "abc"}
        summaries = interleave(runners, Plan(rounds=6, seconds=0.0006, seed=seed))
        assert {one.rounds for one in summaries.values()} == {6}
        return log[-18:]

    def test_every_contender_runs_once_in_each_round(self) -> None:
        order = self.order_of_rounds(1)
        assert all(sorted(order[start : start + 3]) == ["a", "b", "c"] for start in range(0, 18, 3))

    def test_rounds_are_shuffled_and_the_seed_repeats_them(self) -> None:
        order = self.order_of_rounds(1)
        assert order == self.order_of_rounds(1)
        assert len({tuple(order[start : start + 3]) for start in range(0, 18, 3)}) > 1

    def test_slices_are_of_equal_time_not_of_equal_count(self) -> None:
        class Steady:
            def __init__(self, each_ns: int) -> None:
                self.each_ns, self.calls = each_ns, 0

            def run(self, calls: int) -> figures.Round:
                self.calls = calls
                return figures.Round([self.each_ns] * calls, self.each_ns * calls, None, calls)

        quick, slow = Steady(1_000), Steady(20_000)
        interleave({"quick": quick, "slow": slow}, Plan(rounds=2, seconds=0.004, seed=0))
        assert (quick.calls, slow.calls) == (2000, 100)


class TestGoals:
    @pytest.mark.parametrize(
        ("value", "at_least", "at_most", "verdict"),
        [(2.5, 2.5, None, "ok"), (2.49, 2.5, None, "MISS"), (1.9, None, 1.9, "ok"), (1.91, None, 1.9, "MISS"),
         (None, 2.5, None, "n/a"), (3.0, None, None, "-")],
    )  # fmt: skip
    def test_a_bound_that_is_met_exactly_is_reached(
        self, value: float | None, at_least: float | None, at_most: float | None, verdict: str
    ) -> None:
        assert goals.judge(value, at_least=at_least, at_most=at_most) == verdict

    def row(self, rows: list[dict[str, object]], rival: str) -> dict[str, object]:
        return next(row for row in rows if row["rival"] == rival)

    def test_ratios_are_the_rivals_time_over_ours_and_ours_over_the_floors(self) -> None:
        results = {
            "get": {
                OURS_ONE: make_summary(10),
                OURS_MANY: make_summary(12),
                "django-redis": make_summary(26),
                "django-redis shard": make_summary(30),
                C_CLIENT: make_summary(5),
            }
        }
        rows = goals.compare(results, "same")
        assert (self.row(rows, "django-redis")["value"], self.row(rows, "django-redis")["verdict"]) == (
            2.6,
            "ok",
        )
        assert self.row(rows, "django-redis shard")["value"] == 2.5
        assert self.row(rows, "django-redis shard")["verdict"] == "MISS"
        assert (self.row(rows, C_CLIENT)["value"], self.row(rows, C_CLIENT)["verdict"]) == (2.0, "MISS")
        assert self.row(rows, "django-redis")["beyond_floor"] == pytest.approx(21 / 5)
        assert self.row(rows, "django-redis")["ceiling"] == pytest.approx(26 / 5)

    def test_a_rival_that_did_not_run_is_neither_met_nor_missed(self) -> None:
        rows = goals.compare({"get": {OURS_ONE: make_summary(10)}}, "same")
        assert {row["verdict"] for row in rows} == {"n/a"}

    def test_goals_are_judged_under_their_own_placement_only(self) -> None:
        results = {"get": {OURS_ONE: make_summary(10), "django-redis": make_summary(11)}}
        assert [row["verdict"] for row in goals.compare(results, "split")] == ["-"]

    def test_every_goal_names_a_known_scenario_and_contender(self) -> None:
        names = {each.name for each in (*contenders.OURS, *contenders.PEERS)} | {C_CLIENT, goals.SEQUENTIAL}
        known = {scenario.name for scenario in scenarios.SCENARIOS}
        for goal in goals.RATIO_GOALS:
            assert {goal.ours, goal.rival} <= names
            assert goal.scenario in known
            assert (goal.at_least is None) != (goal.at_most is None)
        for figure in goals.FIGURE_GOALS:
            assert figure.figure in figures.Summary.__dataclass_fields__


class TestContenders:
    def test_contenders_keep_apart_on_shared_nodes(self) -> None:
        urls = {name: f"redis://127.0.0.1:{port}/0" for name, port in zip("abcd", range(7001, 7005), strict=True)}
        every = (*contenders.OURS, *contenders.PEERS)
        assert len({each.alias for each in every}) == len({each.name for each in every}) == len(every)
        shard = next(each for each in every if each.alias == "dredis4").settings(urls, "b3")
        assert shard["LOCATION"] == list(urls.values())
        valkey = next(each for each in every if each.alias == "dvalkey").settings(urls, "b4")
        assert valkey["LOCATION"] == "valkey://127.0.0.1:7001/0"
        assert contenders.OURS[0].settings(urls, "b0")["LOCATION"] == {"a": urls["a"]}

    def test_a_missing_package_is_named(self) -> None:
        absent = contenders.Contender("x", "x", "no.such.Cache", 1, ("distcache-no-such-package",), "")
        found = contenders.probe(absent)
        assert not found.is_usable
        assert "distcache-no-such-package" in str(found.reason)

    def test_an_older_version_is_refused_not_used(self) -> None:
        old = contenders.Contender("x", "x", "django.core.cache.Cache", 1, ("django",), "", minimum="999.0")
        assert "999.0" in str(contenders.probe(old).reason)

    def test_without_peers_only_django_itself_is_beside_us(self) -> None:
        assert [each.name for each in contenders.select(False)] == [OURS_ONE, OURS_MANY, "Django RedisCache"]


class TestScenarios:
    class Forgetful(dict[str, object]):
        """A cache that stores and returns the wrong thing."""

        def set(self, key: str, value: object, timeout: int) -> None:
            self[key] = value

        def set_many(self, entries: dict[str, object], timeout: int) -> list[str]:
            self.update(dict.fromkeys(entries, "wrong"))
            return []

    @pytest.mark.parametrize("name", ["get", "get_many", "add"])
    def test_a_cache_that_answers_wrongly_is_not_timed(self, name: str) -> None:
        scenario = next(each for each in scenarios.SCENARIOS if each.name == name)
        with pytest.raises(scenarios.WrongAnswer):
            scenario.prepare(self.Forgetful(), scenarios.build_data(1))

    def test_values_stay_out_of_the_message(self) -> None:
        with pytest.raises(scenarios.WrongAnswer) as caught:
            scenarios.expect("get", "secret", "other")
        assert "secret" not in str(caught.value)
        assert "other" not in str(caught.value)

    def test_equal_values_of_another_type_are_wrong(self) -> None:
        with pytest.raises(scenarios.WrongAnswer):
            scenarios.expect("get", True, 1)


class TestPlacement:
    def test_same_shares_a_core_and_split_does_not(self) -> None:
        same = machine.placement("same", (2, 3))
        split = machine.placement("split", (2, 3))
        assert same.client == same.servers == (3,)
        assert (split.client, split.servers) == ((3,), (2,))
        assert machine.placement("none", ()).client == ()
        with pytest.raises(ValueError, match="2 pinnable"):
            machine.placement("split", (0,))

    def test_the_report_names_neither_host_nor_path(self) -> None:
        described = json.dumps(machine.describe_machine())
        assert sys.prefix not in described
        assert "node" not in machine.describe_machine()


class TestFaultFigures:
    SECOND = 1_000_000_000

    def setting(self, threads: int = 1) -> trial.Setting:
        return trial.Setting(lambda: None, {"a": "redis://127.0.0.1:1/0"}, "a", "sigstop", threads, 1.0, 1)

    def log(self, *calls: tuple[float, float, int]) -> trial.Log:
        log = trial.Log()
        for start, duration, outcome in calls:
            log.starts.append(round(start * self.SECOND))
            log.durations.append(round(duration * self.SECOND))
            log.outcomes.append(outcome)
        return log

    def test_a_call_under_way_when_the_node_breaks_counts_as_slow(self) -> None:
        log = self.log((1.0, 0.01, trial.HIT), (1.9, 0.3, trial.MISS), (2.5, 0.01, trial.HIT))
        found = trial._figures([log], self.setting(), 2 * self.SECOND, 4 * self.SECOND)
        assert found["slowest_ms"] == pytest.approx(300)
        assert (found["waited"], found["waited_per_thread"]) == (1, 1)

    def test_hit_ratio_and_rate_compare_the_second_before_with_the_fault(self) -> None:
        before = [(1 + number / 10, 0.001, trial.HIT) for number in range(8)]
        during = [(2 + number / 10, 0.001, trial.HIT if number % 4 else trial.MISS) for number in range(16)]
        found = trial._figures([self.log(*before, *during)], self.setting(), 2 * self.SECOND, 4 * self.SECOND)
        assert found["hit_ratio_before"] == 1.0
        assert found["hit_kept"] == pytest.approx(0.75)
        assert (found["ops_before"], found["ops_during"]) == (8, 8)

    def test_waiting_calls_are_counted_for_each_thread(self) -> None:
        one = self.log(
            (1.5, 0.001, trial.HIT), (2.0, 0.25, trial.MISS), (2.5, 0.25, trial.MISS), (3.5, 0.001, trial.HIT)
        )
        other = self.log((2.1, 0.25, trial.MISS))
        found = trial._figures([one, other], self.setting(2), 2 * self.SECOND, 4 * self.SECOND)
        assert (found["waited"], found["waited_per_thread"]) == (3, 2)

    def make_trial(self, **changed: object) -> dict[str, object]:
        calm: dict[str, object] = {
            "fault": "sigstop", "policy": "miss", "threads": 1, "slowest_ms": 260.0, "waited": 1, "errors": 0,
            "waited_per_thread": 1, "stale": 0, "stall_ms": 1.0, "back_s": 0.4, "ops_before": 10.0, "ops_during": 9.0,
            "hit_ratio_before": 1.0, "hit_ratio_during": 0.75, "hit_kept": 0.75, "ops_kept": 0.9,
            "p99_ratio": 1.0,
        }  # fmt: skip
        return calm | changed

    def test_one_bad_run_decides_what_waits_and_the_median_what_is_kept(self) -> None:
        runs = [self.make_trial(), self.make_trial(slowest_ms=999.0, ops_kept=0.1), self.make_trial()]
        (row,) = faults.summarize(runs)
        assert row["verdicts"]["slowest_ms"] == "MISS"
        assert row["verdicts"]["ops_kept"] == "ok"

    def test_a_node_that_never_comes_back_is_a_miss(self) -> None:
        (row,) = faults.summarize([self.make_trial(), self.make_trial(back_s=None)])
        assert row["back_s"] is None
        assert row["verdicts"]["back_s"] == "MISS"
        assert "never" in outcomes.faults({"faults": [row], "runs": 2, "descriptions": {}})

    def test_values_that_were_overwritten_or_deleted_are_stale(self) -> None:
        held = {"d0": "old", "w1": "old", "d2": None, "w3": "new", "d4": "new", "w5": None}
        assert trial._count_stale(held, list(held)) == 3


class TestRings:
    def test_look_ups_are_interleaved_and_named(self) -> None:
        look_ups = {rings.OURS: HashRing(rings.names(3)).get_node, "other": str.upper}
        rows = rings.time_look_ups(look_ups, rounds=3, seed=1)
        assert {row["name"] for row in rows} == set(look_ups)
        assert all(row["low"] <= row["ns"] <= row["high"] for row in rows)

    def test_balance_and_movement_reach_their_goals(self) -> None:
        row = rings._balance(4, 50_000)
        assert row["peak_to_mean"] <= 1.03
        assert abs(row["slots_off"]) <= 1


class TestOutput:
    def results(self) -> dict[str, dict[str, figures.Summary]]:
        return {
            "get": {
                OURS_ONE: make_summary(10),
                "django-redis": make_summary(25),
                "a < b & c": make_summary(40),
            }
        }

    def test_picture_is_well_formed_and_has_a_bar_for_each_figure(self) -> None:
        picture = ET.fromstring(svg.render(make_report(**self.results())))
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
        bars = picture.findall(".//{http://www.w3.org/2000/svg}g/{http://www.w3.org/2000/svg}rect")
        widths = [float(bar.attrib["width"]) for bar in bars]
        assert len(widths) == 3
        assert widths == sorted(widths)
        assert widths[2] / widths[0] == pytest.approx(4, rel=0.01)

    def test_picture_uses_nothing_a_strict_policy_forbids(self) -> None:
        text = svg.render(make_report(**self.results()))
        assert "style" not in text
        assert "script" not in text
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")

    def test_same_report_draws_the_same_bytes(self) -> None:
        report = make_report(**self.results())
        assert svg.render(report) == svg.render(json.loads(json.dumps(report)))

    def test_table_shows_figures_goals_and_verdicts(self) -> None:
        text = table.render(make_report(**self.results()))
        assert "valkey 9.1.2" in text
        assert "seed 7" in text
        row = next(line for line in text.splitlines() if line.startswith("get ") and " django-redis " in line)
        assert row.split()[-3:] == [">=", "2.5", "ok"]

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, "-"),
            (0.0, "0"),
            (1.2345, "1.23"),
            (12345.6, "12,346"),
            (0.00123, "0.00123"),
            (99.96, "100"),
        ],
    )
    def test_figures_keep_three_digits(self, value: float | None, shown: str) -> None:
        assert layout.number(value) == shown
