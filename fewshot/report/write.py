"""Everything that a report is made of, as files in one folder."""

from collections.abc import Sequence
from pathlib import Path

from fewshot.report.content import ReportContent
from fewshot.report.exports import write_tables
from fewshot.report.page import write_report
from fewshot.report.summary_file import write_summary
from fewshot.report.tables import write_markdown


def write_everything(content: ReportContent, folder: Path) -> Sequence[Path]:
    """Write the page, its figures and tables, and the summary as JSON and Markdown.

    Args:
        content: what to say.
        folder: made where it is missing; files of an earlier report are replaced.

    Returns:
        What a reader would open first: `report.html`, `summary.json` and `summary.md`; there are `figures/` and
        `tables/` beside them.
    """
    write_tables(content, folder / "tables")
    return write_report(content, folder), write_summary(folder, content), write_markdown(folder, content)
