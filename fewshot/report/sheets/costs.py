"""What every row costs."""

from dataclasses import asdict

from fewshot.report.content import ReportContent
from fewshot.report.cost_rows import MeanCost, mean_costs
from fewshot.report.sheets.sheet import Sheet, or_dash

HEADINGS = (
    "dataset",
    "K",
    "method",
    "training, s",
    "adapting, s",
    "per image, ms",
    "memory, MiB",
    "weights, millions",
)


def cost_sheet(content: ReportContent) -> Sheet:
    """Seconds, memory and weights, means over training seeds."""
    found = [(part.target, cost) for part in content.targets for cost in mean_costs(part.costs)]
    records = [{"target": target, **asdict(cost)} for target, cost in found]
    return Sheet("costs", "What it costs", HEADINGS, records, [[target, *_texts(cost)] for target, cost in found])


def _texts(cost: MeanCost) -> list[str]:
    return [
        str(cost.shot),
        cost.method,
        _scaled(cost.training_seconds, 1, ".0f"),
        _scaled(cost.adapt_seconds, 1, ".2f"),
        _scaled(cost.image_seconds, 1000, ".1f"),
        _scaled(cost.peak_bytes, 2**-20, ".0f"),
        _scaled(cost.parameters, 1e-6, ".2f"),
    ]


def _scaled(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else or_dash(factor * value, form)
