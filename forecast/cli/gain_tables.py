"""Whether a forecast is better than others, as tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecast.cli.console import print_table
from forecast.cli.score_tables import NO_AGENT, gain_text, number, print_scope, titled_table
from forecast.evaluation.against import verdict
from forecast.evaluation.score_names import label_of, unit_of

if TYPE_CHECKING:
    from forecast.evaluation.against import Reference, ScoresAgainst

GAINED = """\
difference: this forecast's score minus the other's [95 % interval over scenes]
better, worse: the whole interval is on one side; of ADE and FDE less is better"""


def print_against(found: ScoresAgainst) -> None:
    """A table and a sentence for each class, of each other forecast."""
    print(f"forecast of {found.scores.model}")
    print_scope(found.scores)
    own = {name: one for name, one in found.scores.classes.items() if one.counts["cells"]}
    if not own:
        print(NO_AGENT)
        return
    for path, reference in found.references.items():
        for name, one in own.items():
            values = {score: getattr(one, score) for score in one.interval}
            print_gains(name, path, values, reference)
    print(GAINED)
    for reference in found.references.values():
        for name in own:
            print(reference.summary[name])


def print_gains(name: str, path: str, own: dict[str, float | None], reference: Reference) -> None:
    """The table of one class: each score of both, and the difference."""
    given = reference.model if path == reference.model else f"{reference.model} ({path})"
    table = titled_table(f"{name} against {given}", "score", ["this", "other", "difference", ""])
    for score, value in own.items():
        gain, other = reference.gains[name].get(score), reference.scores[name][score]
        if value is None and other is None:
            continue
        judged = "" if gain is None else verdict(score, gain)
        unit = unit_of(score)
        cells = number(value, unit), number(other, unit), gain_text(gain)
        table.add_row(label_of(score), *cells, judged)
    print_table(table)
