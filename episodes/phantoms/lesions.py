"""Lesions as radiology describes them (ACR BI-RADS Atlas, 5th ed.), and what is mistaken for them."""

from dataclasses import replace

import numpy as np

from episodes.phantoms.outlines import corners, ellipse, lobulation, normalised, spicules
from episodes.phantoms.anatomy import Breast
from episodes.phantoms.inclusions import Inclusion


def draw_lesion(rng: np.random.Generator, malignant: bool, breast: Breast, depth: float) -> Inclusion:
    """Draw a lesion that fits between skin and muscle where it can.

    Args:
        rng: its random numbers.
        malignant: or benign.
        breast: where it grows.
        depth: side of the image, mm.

    Returns:
        A lesion of 3 to 25 % of the image (one in ten: 1 to 3 %).
    """
    low, high = (0.01, 0.03) if rng.random() < 0.1 else (0.03, 0.16 if malignant else 0.25)
    radius = depth * (rng.uniform(low**0.5, high**0.5) / np.pi**0.5)
    lesion = (_malignant if malignant else _benign)(rng, breast, radius)
    highest = breast.skin + 1 + lesion.half_height
    lowest = max(highest, min(breast.fascia, 0.75 * depth) - 0.7 * lesion.half_height)
    sideways = max(depth / 2 - 1.05 * lesion.half_width, 0)
    return replace(lesion, x=rng.uniform(-sideways, sideways), z=rng.uniform(highest, lowest))


def _benign(rng: np.random.Generator, breast: Breast, radius: float) -> Inclusion:
    """Oval, circumscribed, parallel to the skin, homogeneous; one in six is a cyst."""
    outline = ellipse(aspect=rng.uniform(1.25, 2.1), tilt=rng.normal(0, 0.12))
    outline = outline * (1 + lobulation(rng, rng.uniform(0.01, 0.06), 2, 4))
    cyst = rng.random() < 1 / 6
    return Inclusion(
        outline=normalised(outline) * radius,
        level=-34 if cyst else breast.fat_level + rng.uniform(-8, 1),
        heterogeneity=rng.uniform(0.5, 2.0),
        attenuation=0.1 if cyst else rng.uniform(0.2, 0.5),
        margin=rng.uniform(0.2, 0.8),
        capsule=rng.uniform(0.1, 1.5),
        edge_shadow=rng.uniform(0.2, 2.0),
    )


def _malignant(rng: np.random.Generator, breast: Breast, radius: float) -> Inclusion:
    """Irregular, not parallel, with an angular, microlobulated or spiculated indistinct margin and a halo."""
    outline = ellipse(aspect=rng.uniform(0.55, 0.95), tilt=rng.normal(0, 0.2))
    outline = outline * (1 + lobulation(rng, rng.uniform(0.03, 0.1), 3, 9))
    kind = rng.integers(3)
    if kind == 0:
        outline = outline * (1 + corners(rng, int(rng.integers(7, 12)), rng.uniform(0.08, 0.16)))
    elif kind == 1:
        outline = outline * (1 + spicules(rng, int(rng.integers(6, 14)), rng.uniform(0.2, 0.5)))
    else:
        outline = outline * (1 + lobulation(rng, rng.uniform(0.05, 0.1), 8, 18))
    return Inclusion(
        outline=normalised(np.maximum(outline, 0.3)) * radius,
        level=breast.fat_level + rng.uniform(-7, 1),
        heterogeneity=rng.uniform(2.0, 5.0),
        attenuation=rng.uniform(0.9, 1.5),
        margin=rng.uniform(0.5, 1.8),
        halo=rng.uniform(1.0, 5.0),
        streaks=rng.uniform(1.0, 4.0),
        calcifications=int(rng.integers(2, 9)) if rng.random() < 1 / 3 else 0,
    )


def draw_distractors(rng: np.random.Generator, count: int, breast: Breast, depth: float) -> list[Inclusion]:
    """Draw fat lobules within the gland, and ducts: dark, often oval, and no lesions."""
    return [(_duct if rng.random() < 0.15 else _fat_lobule)(rng, breast, depth) for _ in range(count)]


def _fat_lobule(rng: np.random.Generator, breast: Breast, depth: float) -> Inclusion:
    """As dark as fat because it is fat, with a septum around it, and without enhancement or shadow."""
    outline = ellipse(aspect=rng.uniform(1.4, 2.8), tilt=rng.normal(0, 0.2))
    outline = normalised(outline * (1 + lobulation(rng, 0.06, 2, 5)))
    return Inclusion(
        outline=outline * (depth * (rng.uniform(0.008, 0.08) / np.pi) ** 0.5),
        x=rng.uniform(-depth / 2, depth / 2),
        z=rng.uniform(breast.fat, breast.fascia),
        level=breast.fat_level + rng.normal(0, 1.5),
        heterogeneity=rng.uniform(0.5, 2.0),
        attenuation=0.6,
        margin=rng.uniform(0.3, 1.0),
        capsule=rng.uniform(0.1, 1.5),
    )


def _duct(rng: np.random.Generator, breast: Breast, depth: float) -> Inclusion:
    outline = ellipse(aspect=rng.uniform(4, 7), tilt=rng.normal(0, 0.25))
    return Inclusion(
        outline=outline * rng.uniform(1.0, 1.8),
        x=rng.uniform(-depth / 2, depth / 2),
        z=rng.uniform(breast.fat + 1, breast.fascia - 2),
        level=-19,
        heterogeneity=0.5,
        attenuation=0.5,
        margin=0.4,
        capsule=0.8,
    )


def another_view(lesion: Inclusion, rng: np.random.Generator, depth: float) -> Inclusion:
    """The same lesion in another section: moved, scaled, its outline and level a little different."""
    outline = lesion.outline * rng.uniform(0.85, 1.08) * (1 + lobulation(rng, 0.03, 2, 6))
    sideways = max(depth / 2 - lesion.half_width, 0)
    return replace(
        lesion,
        outline=outline,
        x=float(np.clip(lesion.x + rng.normal(0, 0.08 * depth), -sideways, sideways)),
        z=lesion.z + rng.uniform(-0.5, 1.5),
        level=lesion.level + rng.normal(0, 0.8),
    )
