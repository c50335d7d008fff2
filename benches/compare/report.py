"""What the rounds say: the median and quartiles of their ratios, and a table of them."""

import statistics
from dataclasses import dataclass

from rounds import Record
from scenarios import MEASURES, Comparison, Scenario


@dataclass(frozen=True)
class Row:
    """The outcome of one comparison."""

    scenario: Scenario
    comparison: Comparison
    subject: float
    baseline: float
    """Medians of the measure itself."""
    median: float
    lower: float
    upper: float
    """Of the rounds' ratios, with quartiles."""
    rounds: int

    @property
    def is_met(self) -> bool | None:
        target = self.comparison.target
        return None if target is None else self.median <= target


def rows(scenario: Scenario, records: list[Record]) -> list[Row]:
    """The scenario's comparisons that have at least one round in which both sides succeeded."""
    found = [_row(scenario, comparison, records) for comparison in scenario.comparisons]
    return [row for row in found if row]


def _row(scenario: Scenario, comparison: Comparison, records: list[Record]) -> Row | None:
    subject = _by_round(scenario, comparison.subject, comparison.measure, records)
    baseline = _by_round(scenario, comparison.baseline, comparison.measure, records)
    rounds = [number for number in subject if baseline.get(number)]
    if not rounds:
        return None
    ratios = [subject[number] / baseline[number] for number in rounds]
    lower, median, upper = _quartiles(ratios)
    return Row(
        scenario,
        comparison,
        subject=statistics.median(subject[number] for number in rounds),
        baseline=statistics.median(baseline[number] for number in rounds),
        median=median,
        lower=lower,
        upper=upper,
        rounds=len(rounds),
    )


def _by_round(
    scenario: Scenario, contender: str, measure: str, records: list[Record]
) -> dict[int, float]:
    return {
        record["round"]: record[measure]
        for record in records
        if record["scenario"] == scenario.name
        and record["contender"] == contender
        and measure in record
    }


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, median, upper


def table(found: list[Row]) -> str:
    """A Markdown table, aligned so that a terminal shows it well too."""
    head = ["scenario", "measure", "compared", "medians", "ratio", "quartiles", "target", "met"]
    lines = [head, *map(_cells, found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def _cells(row: Row) -> list[str]:
    comparison = row.comparison
    return [
        row.scenario.name,
        MEASURES[comparison.measure],
        f"{comparison.subject} / {comparison.baseline}",
        f"{row.subject:.4g} / {row.baseline:.4g}",
        f"{row.median:.2f}",
        f"{row.lower:.2f} to {row.upper:.2f}",
        "" if comparison.target is None else f"{comparison.target:.2f}",
        {None: "", True: "yes", False: "no"}[row.is_met],
    ]
