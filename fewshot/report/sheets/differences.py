"""Paired differences: with the best row, with a method's control, and between two runs."""

from fewshot.report.content import ReportContent
from fewshot.report.sheets.sheet import Sheet, difference_record, difference_texts
from fewshot.results.summary import interval_columns, show


def comparison_sheet(content: ReportContent) -> Sheet:
    """Every row beside the best one of its target."""
    found = [(part.answers[-1].best, one) for part in content.targets for one in part.comparisons]
    records = [
        {
            "target": one.row.target,
            "method": one.row.method,
            "shot": one.row.shot,
            "role": one.row.role,
            "best": best.method,
            "best_shot": best.shot,
            **difference_record(one.difference, one.corrected_p),
        }
        for best, one in found
    ]
    texts = [
        [one.row.target, str(one.row.shot), one.row.method, *difference_texts(one.difference, one.corrected_p)]
        for _, one in found
    ]
    headings = ("dataset", "K", "method", "minus the best [95 %]", "p", "p, corrected")
    return Sheet("comparisons", "Every method beside the best", headings, records, texts)


def control_sheet(content: ReportContent) -> Sheet:
    """What every control costs its method."""
    found = [one.controlled for part in content.targets for one in part.controls]
    records = [
        {
            **{name: getattr(one, name) for name in ("target", "method", "shot", "control", "masks")},
            **interval_columns("difference", one.difference.interval),
            "p_value": one.difference.p_value,
        }
        for one in found
    ]
    texts = [
        [one.target, str(one.shot), one.method, one.masks, show(one.difference.interval, sign=True)] for one in found
    ]
    headings = ("dataset", "K", "method", "masks", "loss of lesion Dice [95 %]")
    return Sheet("controls", "With masks that say nothing", headings, records, texts)


def pair_sheet(content: ReportContent) -> Sheet:
    """Rows that two runs have, beside each other."""
    records = [
        {
            "target": one.first.target,
            "method": one.method,
            "shot": one.first.shot,
            "first": one.first.method,
            "second": one.second.method,
            **interval_columns("first_dice", one.first.dice),
            **interval_columns("second_dice", one.second.dice),
            **difference_record(one.difference, one.corrected_p),
        }
        for one in content.pairs
    ]
    texts = [
        [
            one.first.target,
            str(one.first.shot),
            one.method,
            show(one.first.dice),
            show(one.second.dice),
            *difference_texts(one.difference, one.corrected_p),
        ]
        for one in content.pairs
    ]
    headings = ("dataset", "K", "method", "first run", "second run", "second minus first", "p", "p, corrected")
    return Sheet("pairs", "The two runs beside each other", headings, records, texts)
