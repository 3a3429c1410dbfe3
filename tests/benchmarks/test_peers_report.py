"""What the comparison with the peers says: spreads, ratios, goals, tables."""

import json

import pytest

from benchmarks.peers.machine import Machine, this_machine
from benchmarks.peers.measures import PER_S, SECONDS, Measure, Sample, chosen, measures
from benchmarks.peers.report import Report, Spread, result_of
from benchmarks.peers.rounds import Run, samples_of

OURS = Sample("ours", "decode 4")
THEIRS = Sample("theirs", "decode 4")
FASTER = Measure("qwen-decode", "decode against theirs", OURS, THEIRS, least=1.3)
SOONER = Measure(
    "qwen-first",
    "first token against theirs",
    Sample("ours", "prefill 4", SECONDS, slow=True),
    Sample("theirs", "prefill 4", SECONDS, slow=True),
    most=0.5,
)
MACHINE = Machine(
    cpu="A CPU",
    cpu_numbers="6/1/0",
    flags=("avx2", "avx512_vnni"),
    cores=2,
    memory_bytes=24 * 2**30,
    load=0.5,
    system="Linux",
    versions={"x": "1"},
)


def report(*runs: Run, measures: tuple[Measure, ...] = (FASTER,)) -> Report:
    peers = {"theirs==1.0": "-march=native"}
    return Report("2026-01-02 03:04 UTC", "make bench-peers", MACHINE, peers, measures, runs)


def test_a_ratio_is_of_the_values_of_one_round() -> None:
    rounds = [{OURS: 10.0, THEIRS: 5.0}, {OURS: 30.0, THEIRS: 10.0}, {OURS: 20.0, THEIRS: 20.0}]
    result = result_of(FASTER, Run("qwen", 2, rounds))
    assert result.ratio == Spread(1.0, 2.0, 3.0)
    assert result.first == Spread(10.0, 20.0, 30.0)
    assert result.met is True


@pytest.mark.parametrize(("theirs", "met"), [(7.0, True), (8.0, False)])
def test_a_speed_has_to_be_so_many_times_theirs(theirs: float, met: bool) -> None:
    assert result_of(FASTER, Run("qwen", 1, [{OURS: 10.0, THEIRS: theirs}])).met is met


@pytest.mark.parametrize(("seconds", "met"), [(4.0, True), (6.0, False)])
def test_a_time_may_be_only_such_a_part_of_theirs(seconds: float, met: bool) -> None:
    answers = {SOONER.first: seconds, SOONER.second: 10.0}
    assert result_of(SOONER, Run("qwen", 1, [answers])).met is met


def test_bandwidth_is_what_a_token_reads_times_the_speed() -> None:
    bandwidth = next(one for one in measures() if one.key == "qwen-bandwidth-int8")
    # 463.9 MB a token, 40 tokens a second, of 20 GB a second.
    assert bandwidth.ratio(40.0, 20.0) == pytest.approx(0.928, abs=0.001)


def test_a_round_without_one_of_both_says_nothing_about_the_ratio() -> None:
    result = result_of(FASTER, Run("qwen", 2, [{OURS: 10.0}, {OURS: 20.0, THEIRS: 10.0}]))
    assert result.rounds == 1
    assert result.ratio == Spread(2.0, 2.0, 2.0)
    assert result.first == Spread(10.0, 15.0, 20.0)


def test_a_contender_that_is_missing_leaves_the_goal_open_and_says_why() -> None:
    run = Run("qwen", 2, [{OURS: 10.0}], failures={"theirs": "theirs has ended: no memory"})
    text = report(run).as_markdown()
    assert result_of(FASTER, run).met is None
    assert "| 10 (10-10) tokens/s | - | - | at least 1.3 | not measured |" in text
    assert "Missing, threads 2: theirs has ended: no memory" in text


def test_the_table_shows_both_values_the_ratio_and_the_goal() -> None:
    rounds = [{OURS: 41.26, THEIRS: 30.0}, {OURS: 150.4, THEIRS: 100.0}]
    text = report(Run("qwen", 2, rounds)).as_markdown()
    row = (
        "| decode against theirs | 2 | 2 | 95.8 (41.3-150) tokens/s | 65 (30-100) tokens/s "
        "| 1.44 (1.38-1.5) | at least 1.3 | yes |"
    )
    assert row in text.splitlines()


def test_the_report_names_the_machine_the_peers_and_the_memory() -> None:
    run = Run("qwen", 2, peak_bytes={"ours": 1_100_000_000}, load_s={"ours": 1.25})
    text = report(run).as_markdown()
    assert "A CPU (family/model/stepping 6/1/0), 2 cores, 24 GiB; avx2 avx512_vnni" in text
    assert "- theirs==1.0: -march=native" in text
    assert "| ours | 2 | 1.2 s | 1.10 GB |" in text


def test_the_json_holds_every_rounds_values() -> None:
    written = json.dumps(report(Run("qwen", 2, [{OURS: 10.0, THEIRS: 5.0}])).as_json())
    read = json.loads(written)
    assert [one["answer"] for one in read["runs"][0]["rounds"][0]] == [10.0, 5.0]
    assert read["runs"][0]["rounds"][0][0]["contender"] == "ours"
    assert read["results"][0]["ratio"]["median"] == 2.0
    assert read["machine"]["cores"] == 2


def test_a_measures_group_takes_only_its_own_runs() -> None:
    results = report(Run("qwen", 2), Run("chatglm", 2), Run("qwen", 1)).results
    assert [result.threads for result in results] == [2, 1]


def test_every_measure_has_a_key_of_its_own_and_one_goal() -> None:
    every = measures()
    assert len({one.key for one in every}) == len(every)
    assert all((one.least is None) != (one.most is None) for one in every)


def test_measures_are_chosen_by_parts_of_their_keys() -> None:
    keys = [one.key for one in chosen(measures(), ["chatglm-first-32", "engine-turns"])]
    assert keys == ["chatglm-first-32", "engine-turns"]
    assert chosen(measures(), []) == measures()


def test_two_values_that_are_compared_are_measured_after_each_other_and_once() -> None:
    other = Measure("qwen-other", "", OURS, Sample("reader", "read"), least=1.0)
    assert samples_of([FASTER, other]) == [OURS, THEIRS, other.second]


def test_slow_samples_can_be_left_out() -> None:
    assert samples_of([SOONER, FASTER], slow=False) == [OURS, THEIRS]


def test_a_conversations_first_turn_comes_before_its_fifth() -> None:
    turns = next(one for one in measures() if one.key == "engine-turns")
    assert [sample.command for sample in samples_of([turns])] == ["turn 1 150", "turn 5 150"]


def test_this_machine_has_cores_memory_and_the_versions_of_what_computes() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.memory_bytes > 2**30
    assert {"Python", "torch", "numpy"} <= set(machine.versions)


def test_the_unit_of_a_sample_is_tokens_a_second_unless_it_says_otherwise() -> None:
    assert (OURS.unit, SOONER.first.unit) == (PER_S, SECONDS)
