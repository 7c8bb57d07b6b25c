"""What stands on the first screen: for each number of annotated images the method to use, and how sure that is."""

import math

from fewshot.report.content import Answer
from fewshot.report.wording import number


def how_sure(answer: Answer) -> str:
    """Whether the best is clearly better than its rival, in one plain sentence.

    A lead is clear where its interval, over other patients and other annotated images, leaves zero out.
    """
    if answer.rival is None or answer.lead is None:
        return "No other method was tried."
    lead, rival = answer.lead.interval, answer.rival.method
    if rival == answer.best.method:
        rival = f"{rival} with {'the image' if answer.rival.shot == 1 else 'the images'}"
    if math.isnan(lead.low):
        return f"Next is {rival}; how sure that is cannot be told from so few images."
    if lead.low > 0:
        return f"Clearly better than {rival} (by {number(lead.estimate, 2)})."
    if number(lead.estimate, 2) == "0.00":
        return f"{rival} is just as good."
    return f"{rival} is nearly as good: the difference ({number(lead.estimate, 2)}) may be chance."


def what_annotating_brings(answer: Answer) -> str:
    """Whether the annotated images are worth their annotation, in one plain sentence; nothing where there are none."""
    if answer.shot == 0:
        return ""
    if answer.best.shot == 0:
        return "Annotating brings nothing here: no method that reads annotated images did better."
    if answer.without is None or answer.gain is None:
        return ""
    gain, images = answer.gain.interval, "the image" if answer.best.shot == 1 else "the images"
    if gain.low > 0:
        more = number(gain.estimate, 2, sign=True)
        return f"Annotating {images} brings {more} over {answer.without.method} without any."
    if answer.rival is answer.without:
        return f"So {answer.without.method} without any annotated image may do as well."
    return f"Whether annotating {images} helps at all is unclear: {answer.without.method} without any may do as well."
