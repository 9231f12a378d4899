"""The tables of scores: who is in them, what they leave out, how wide they get."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from forecast.cli.score_tables import print_breakdown, print_by_lead, print_comparison, print_scores
from forecast.evaluation.breakdown import Row
from forecast.evaluation.by_lead import ScoresByLead
from forecast.evaluation.counts import Forecast, oracle
from forecast.evaluation.scores import Accumulator, Scores
from forecast.evaluation.scoring import read_truths
from forecast.schema import SequenceMeta
from tests.support.stores import GRID, Mover, sequence_dataset


@pytest.fixture
def compared() -> dict[str, Scores]:
    """Constant turn that sees nothing, a model as good as the oracle, and the oracle."""
    data = sequence_dataset([[Mover(0, 0, speed=3)], [Mover(-5, 3, speed=5)]])
    meta = SequenceMeta.from_attrs(data.attrs, "memory")
    blind, perfect = (Accumulator(meta.classes, 6, GRID) for _ in range(2))
    for truth in read_truths("memory", data, meta, range(2), 6):
        best = oracle(truth, GRID)
        blind.add(truth, Forecast(0 * best.semantic, 0 * best.instance, best.pose))
        perfect.add(truth, best)
    scores = [accumulator.scores(dt_s=0.5) for accumulator in (perfect, blind, perfect)]
    return dict(zip(("mine", "constant-turn", "oracle"), scores, strict=True))


def test_comparison_gives_intervals_and_skill(
    compared: dict[str, Scores], capsys: pytest.CaptureFixture[str]
) -> None:
    print_comparison(compared)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "2 sequences from 2 scenes, 6 leads" in lines
    assert "mine 1.000 1.000 1.000 [1.000, 1.000] 0.000 m 1.000" in lines
    assert "constant-turn 0.000 0.000 0.000 [0.000, 0.000] 0.000 m 0.000" in lines
    assert "IoU at +0.5 s +1 s +1.5 s +2 s +2.5 s +3 s" in lines


def test_where_nobody_is_nothing_is_said_to_be_scored(capsys: pytest.CaptureFixture[str]) -> None:
    meta = SequenceMeta.from_attrs(sequence_dataset([[]]).attrs, "memory")
    nothing = Accumulator(meta.classes, 6, GRID).scores()
    print_comparison({"mine": nothing})
    print_scores(nothing)
    print_by_lead(ScoresByLead(nothing, {}, {}))
    assert capsys.readouterr().out.count("nothing to score") == 3


@pytest.mark.parametrize(("leads", "said"), [(12, True), (6, False), (3, False)])
def test_leads_without_truth_are_said_to_be_left_out(
    compared: dict[str, Scores], leads: int, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    print_scores(replace(compared["mine"], forecast_horizon=leads))
    line = "12 leads forecast, 6 have truth; prepare with --horizon 12 to score all"
    assert (line in capsys.readouterr().out.splitlines()) == said


def test_comparison_fits_a_terminal_and_leaves_out_classes_without_truth(
    compared: dict[str, Scores], capsys: pytest.CaptureFixture[str]
) -> None:
    print_comparison(compared)
    out = capsys.readouterr().out
    assert "cyclist" not in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80


def test_a_score_that_is_undefined_is_a_dash(
    compared: dict[str, Scores], capsys: pytest.CaptureFixture[str]
) -> None:
    scores = compared["mine"]
    vehicle = replace(scores.classes["vehicle"], ade=None)
    print_scores(replace(scores, classes={**scores.classes, "vehicle": vehicle}))
    assert re.search(r"ADE, m +-", capsys.readouterr().out)


@pytest.mark.parametrize("column", ["skill", "oracle", "VPQ moving, ADE moving", "[low, high]"])
def test_columns_that_do_not_explain_themselves_are_explained_below_the_comparison(
    column: str, compared: dict[str, Scores], capsys: pytest.CaptureFixture[str]
) -> None:
    print_comparison(compared)
    *_, below = capsys.readouterr().out.partition("IoU at")
    assert f"\n{column}: " in below


def test_the_columns_of_a_breakdown_are_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row(name, "a", 3, 2, 0.5, -0.2, 0.1, 0.6, 0.5, "exact") for name in ("lead", "speed")]
    print_breakdown(rows)
    out = capsys.readouterr().out
    assert out.count("along, aside: ") == 1
    assert "found: share of masks" in out
    assert out.startswith("moving agents of all classes together (--by class: apart), protocol")
    print_breakdown([])
    assert (
        capsys.readouterr().out == "no agent in view at the present moves: nothing to take apart\n"
    )


def test_a_breakdown_by_class_does_not_say_that_classes_are_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_breakdown([Row("class", "vehicle", 3, 2, 0.5, -0.2, 0.1, 0.6, 0.5, "exact")])
    assert capsys.readouterr().out.startswith("moving agents, protocol exact\n")


def test_every_table_names_leads_by_their_time(
    compared: dict[str, Scores], capsys: pytest.CaptureFixture[str]
) -> None:
    print_scores(compared["mine"])
    assert re.findall(r"IoU at (\S+ \S+)", capsys.readouterr().out)[:2] == ["+0.5 s", "+1 s"]


def test_who_reads_ids_beside_a_forecast_that_may_not_is_marked(
    compared: dict[str, Scores], capsys: pytest.CaptureFixture[str]
) -> None:
    read = {"mine": "detected", "constant-turn": "tracked", "oracle": ""}
    hidden = {name: replace(one, input=read[name]) for name, one in compared.items()}
    print_comparison(hidden)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "mine 1.000 1.000 1.000 [1.000, 1.000] 0.000 m 1.000" in lines, "skill is still known"
    assert sum(line.startswith("constant-turn * 0.000") for line in lines) == 2
    assert not any(line.startswith("oracle *") for line in lines)
    assert lines[-1].startswith("* reads ids and boxes")


def test_nobody_is_marked_where_all_read_ids(
    compared: dict[str, Scores], capsys: pytest.CaptureFixture[str]
) -> None:
    print_comparison({name: replace(one, input="tracked") for name, one in compared.items()})
    assert "*" not in capsys.readouterr().out


def test_scores_of_detected_input_say_so(
    compared: dict[str, Scores], capsys: pytest.CaptureFixture[str]
) -> None:
    print_scores(replace(compared["mine"], model="mine", input="detected"))
    assert "forecast of mine, detected input" in capsys.readouterr().out.splitlines()
