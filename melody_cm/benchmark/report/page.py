"""A page that opens anywhere, offline: tables, charts, clips and how all was made, in one file without a request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from melody_cm.benchmark.report.charts import legend_mark
from melody_cm.benchmark.sheet import Sheet
from melody_cm.storage import write_text


@dataclass
class Figure:
    """A finished chart, as SVG, and what stands below it."""

    chart: Markup
    caption: str


@dataclass
class Page:
    """What a page shows; a part without content is left out.

    Attributes:
        title: of the page.
        sheets: its tables.
        facts: how the results were made, by name; identities: of the metrics, by key.
        comparisons: {first, second, metric, difference, low, high, verdict} each.
        series: names in the charts, in the order of their marks; figures: the charts.
        prompts: {text, clips: [{id, name, system, sound, picture}]} each; left_out: how many found no room.
        seed: of the clips; pairs: JSON that the listening test draws from.
    """

    title: str
    sheets: Sequence[Sheet]
    facts: Sequence[tuple[str, str]]
    identities: Sequence[tuple[str, str]]
    comparisons: Sequence[Mapping[str, Any]] = ()
    series: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    prompts: Sequence[Mapping[str, Any]] = ()
    left_out: int = 0
    seed: int = 0
    pairs: Markup = field(default=Markup("[]"))

    def write(self, folder: Path) -> Path:
        """Write `report.html` into a folder; its path."""
        environment = Environment(
            loader=PackageLoader("melody_cm.benchmark.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # Style and script go in as they are; everything else is escaped.
        parts = {name: Markup(environment.loader.get_source(environment, f"page.{name}")[0]) for name in ("css", "js")}
        legend = [(name, Markup(legend_mark(index))) for index, name in enumerate(self.series)]
        html = environment.get_template("page.html").render(**parts, **vars(self), legend=legend)
        write_text(folder / "report.html", html)
        return folder / "report.html"


def facts(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the results were made, for a table of two columns."""
    shown = {key: value for key, value in metadata.items() if key not in ("prompts", "embedding", "embeddings")}
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in shown.items()]
