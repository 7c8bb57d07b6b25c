"""Pictures as the page shows them; what the download holds is drawn by `fewshot.prediction.pictures`."""

import numpy as np
from numpy.typing import NDArray

from fewshot.prediction.pictures import png

# Vermillion, as in the project's figures (fewshot.figures.cases).
LIKELY = (213, 94, 0)

# Larger pictures are shown shrunk: a phone's canvas holds no more.
SHOWN = 2048


def shown_size(size: tuple[int, int], longest: int = SHOWN) -> tuple[int, int]:
    """The (height, width) at which a picture is shown.

    >>> shown_size((600, 800)), shown_size((3000, 6000), 1000)
    ((600, 800), (500, 1000))
    """
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def heat_png(probability: NDArray[np.uint8]) -> bytes:
    """Probabilities (H, W) from 0 to 255 as a colour that covers the more, the more probable the lesion is."""
    heat = np.empty((*probability.shape, 4), np.uint8)
    heat[..., :3] = LIKELY
    heat[..., 3] = probability
    return png(heat)
