"""`python -m tests.benchmarks [NAME]...` measures speed and prints each ratio with what is wanted of it."""

import argparse
from collections.abc import Callable
from functools import partial
from time import perf_counter

from tests.benchmarks import (
    features_speed,
    memory,
    panet_speed,
    pooling_speed,
    sampler_speed,
    scoring_speed,
    startup_speed,
    statistics_speed,
    store_speed,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measure speed as ratios in one run. The machine should be idle."
    )
    names = ("startup", "sampler", "store", "pooling", "statistics", "scoring", "panet", "features", "memory")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all if none is given")
    parser.add_argument(
        "--full", action="store_true", help="features: every episode both ways (an hour); panet: 256x256"
    )
    parser.add_argument("--images", type=int, default=600, help="features: how many images (600)")
    parser.add_argument("--encoder", default="resnet50", help="features: a timm network (resnet50)")
    options = parser.parse_args()
    measurements: dict[str, tuple[str, Callable[[], list[str]]]] = {
        "startup": ("Start of the command line", startup_speed.measure),
        "sampler": ("Episode sampler", sampler_speed.measure),
        "store": ("Reading an episode from the store", store_speed.measure),
        "pooling": ("Masked average pooling", pooling_speed.measure),
        "statistics": ("Crossed bootstrap", statistics_speed.measure),
        "scoring": ("Scoring, as a share of a benchmark", scoring_speed.measure),
        "panet": ("PANet in batches", partial(panet_speed.measure, full=options.full)),
        "features": (
            "Evaluation on cached features",
            partial(features_speed.measure, full=options.full, n_images=options.images, encoder=options.encoder),
        ),
        "memory": ("Features on disk", memory.measure),
    }
    if unknown := set(options.names) - set(measurements):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    for name in options.names or names:
        title, measure = measurements[name]
        begin = perf_counter()
        lines = measure()
        print(f"{title} ({perf_counter() - begin:.0f} s)")
        for line in lines:
            print(f"  {line}")
        print(flush=True)


if __name__ == "__main__":  # a measurement's own processes import this module as well
    main()
