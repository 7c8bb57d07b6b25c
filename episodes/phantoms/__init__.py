"""Phantom datasets: physics-inspired B-mode images of breasts, with the truth about each lesion."""

from episodes.phantoms.layouts import prepare_phantoms, write_bus_uclm, write_busi, write_folder, write_udiat
from episodes.phantoms.population import Phantom, PhantomSpec, generate
from episodes.phantoms.scanners import SCANNERS, Scanner

__all__ = [
    "SCANNERS",
    "Phantom",
    "PhantomSpec",
    "Scanner",
    "generate",
    "prepare_phantoms",
    "write_bus_uclm",
    "write_busi",
    "write_folder",
    "write_udiat",
]
