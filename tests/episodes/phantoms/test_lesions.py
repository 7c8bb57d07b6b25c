"""Sizes and shapes of lesions, as drawn."""

import numpy as np
import pytest

from episodes.phantoms.anatomy import draw_breast
from episodes.phantoms.population import draw_lesion


def test_lesions_have_the_sizes_and_shapes_of_their_kind() -> None:
    rng = np.random.default_rng(0)
    aspects: dict[bool, list[float]] = {True: [], False: []}
    shares = []
    for index in range(300):
        malignant = index % 2 == 0
        lesion = draw_lesion(rng, malignant, draw_breast(rng, 40.0), depth=40.0)
        aspects[malignant].append(lesion.half_width / lesion.half_height)
        shares.append(np.pi * float(np.mean(lesion.outline**2)) / 40.0**2)
    assert np.mean(aspects[False]) > 1.3  # wider than tall
    assert np.mean(aspects[True]) < 0.9  # taller than wide
    assert min(shares) >= 0.01
    assert max(shares) <= 0.25
    assert np.mean(np.array(shares) < 0.03) == pytest.approx(0.1, abs=0.05)


def test_malignant_margins_are_rougher() -> None:
    rng = np.random.default_rng(1)
    breast = draw_breast(rng, 40.0)

    def roughness(malignant: bool) -> float:
        outlines = [draw_lesion(rng, malignant, breast, 40.0).outline for _ in range(50)]
        return float(np.mean([np.abs(np.diff(outline)).sum() / outline.mean() for outline in outlines]))

    assert roughness(malignant=True) > 1.5 * roughness(malignant=False)
