"""The tables of a report as plain cells: numbers in full for machines, and texts for people."""

from fewshot.report.content import ReportContent
from fewshot.report.sheets.costs import cost_sheet
from fewshot.report.sheets.differences import comparison_sheet, control_sheet, pair_sheet
from fewshot.report.sheets.scores import classic_sheet, label_sheet, row_sheet, size_sheet
from fewshot.report.sheets.sheet import Sheet

BUILDERS = (
    row_sheet,
    classic_sheet,
    comparison_sheet,
    pair_sheet,
    size_sheet,
    label_sheet,
    control_sheet,
    cost_sheet,
)


def sheets_of(content: ReportContent) -> list[Sheet]:
    """Every table of a report that has rows."""
    return [sheet for build in BUILDERS if (sheet := build(content)).records]
