"""Draws the ratios as an SVG: a bar for each, whiskers at the quartiles, a tick at the target. The
background is left to the page, and every colour is one that shows on white and on black."""

from html import escape

from report import Row
from scenarios import MEASURES

WIDTH = 860
LABELS = 330
MARGIN = 24
TOP, BAR, GAP, HEADING = 70, 14, 8, 34
# A bar that would be longer is cut there; its figure says how long it is.
RATIO_MAX = 2.5
TEXT, LINE = "#768390", "#8b949e"
CHEAPER, DEARER, TARGET = "#2f9e8f", "#d0803a", "#9a6dd7"
TITLE = "Cost as a ratio, less is better; of CPU time a request where not said otherwise"
STYLE = f"""
    text {{ font: 12px system-ui, sans-serif; fill: {TEXT} }}
    .heading {{ font-weight: 600 }}
    .number {{ font-variant-numeric: tabular-nums }}
"""


def draw(rows: list[Row]) -> str:
    """The chart of the rows, grouped by scenario in their order."""
    scale = _Scale(min(max([1.25, *(row.upper for row in rows)]) * 1.05, RATIO_MAX))
    parts: list[str] = []
    y, scenario = TOP, None
    for row in rows:
        if row.scenario.name != scenario:
            scenario = row.scenario.name
            y += HEADING
            heading = f"{row.scenario.name}: {row.scenario.title}"
            parts.append(_text(MARGIN, y - GAP - 2, heading, "heading"))
        parts += _bar(row, y, scale)
        y += BAR + GAP
    height = y + MARGIN
    frame = [*_legend(), *_axis(scale, height - MARGIN)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
            ' aria-label="Ratios of what keyway costs to what its peers cost">',
            f"<style>{STYLE}</style>",
            *frame,
            *parts,
            "</svg>",
            "",
        ]
    )


class _Scale:
    """From ratios to places on the x axis."""

    def __init__(self, ratio_max: float):
        self.ratio_max = ratio_max

    def __call__(self, ratio: float) -> float:
        room = WIDTH - LABELS - 2 * MARGIN - 30
        return LABELS + room * min(ratio, self.ratio_max) / self.ratio_max


def _bar(row: Row, y: float, scale: _Scale) -> list[str]:
    comparison, middle = row.comparison, y + BAR / 2
    label = f"{comparison.subject} / {comparison.baseline}"
    if comparison.measure != "cpu_us":
        label += f", {MEASURES[comparison.measure]}"
    colour = CHEAPER if row.median <= 1 else DEARER
    parts = [
        _text(LABELS - 8, y + BAR - 3, label, "", "end"),
        f'<rect x="{LABELS}" y="{y}" width="{scale(row.median) - LABELS:.1f}" height="{BAR}"'
        f' rx="2" fill="{colour}" fill-opacity="0.75"/>',
        _line(scale(row.lower), middle, scale(row.upper), middle, TEXT),
        *(
            _line(scale(end), middle - 4, scale(end), middle + 4, TEXT)
            for end in (row.lower, row.upper)
        ),
    ]
    if comparison.target is not None:
        x = scale(comparison.target)
        parts.append(_line(x, y - 3, x, y + BAR + 3, TARGET, 2.5))
    figure_at = max(scale(row.upper), scale(comparison.target or 0)) + 8
    parts.append(_text(figure_at, y + BAR - 3, f"{row.median:.2f}", "number"))
    return parts


def _axis(scale: _Scale, bottom: float) -> list[str]:
    parts = []
    for quarter in range(int(scale.ratio_max * 4) + 1):
        ratio = quarter / 4
        is_parity = ratio == 1
        x = scale(ratio)
        dash = "" if is_parity else ' stroke-dasharray="2 4" stroke-opacity="0.6"'
        parts.append(_line(x, TOP + 6, x, bottom, LINE, 1.5 if is_parity else 1, dash))
        parts.append(_text(x, TOP - 2, f"{ratio:g}", "number", "middle"))
    return parts


def _legend() -> list[str]:
    entries = [("cheaper than the peer", CHEAPER), ("dearer", DEARER), ("target", TARGET)]
    parts = [_text(MARGIN, 22, TITLE, "heading")]
    x = MARGIN
    for name, colour in entries:
        parts.append(f'<rect x="{x}" y="34" width="10" height="10" rx="2" fill="{colour}"/>')
        parts.append(_text(x + 15, 43, name))
        x += 40 + 7 * len(name)
    return parts


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} class="{style}">{escape(text)}</text>'


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.5, more: str = ""
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"'
        f' stroke-width="{width}"{more}/>'
    )
