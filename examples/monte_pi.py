"""Estimate pi by throwing darts at a square: one function, on whatever computers there are.

python examples/monte_pi.py
python examples/monte_pi.py --backend boinc:~/my-project --tasks 800 --darts 1e8
"""

import argparse
import math
import random
import time

from pymw import Master, PyMWError, arguments, progress


def monte_pi(seed: int, darts: int) -> int:
    """Throw `darts` darts at the unit square; how many hit the quarter circle in it."""
    generator = random.Random(seed)
    hits = 0
    for dart in range(darts):
        if dart % 100_000 == 0:
            progress(dart / darts)
        x, y = generator.random(), generator.random()
        hits += x * x + y * y < 1
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimate pi by throwing darts.", parents=[arguments()])
    parser.add_argument(
        "--tasks", type=int, default=40, metavar="N", help="how many tasks share the work (%(default)s)"
    )
    parser.add_argument("--darts", type=float, default=4e6, metavar="N", help="darts in all (%(default).0e)")
    options = parser.parse_args()
    if not 1 <= options.tasks <= options.darts < 1e15:
        parser.error("there must be at least one task, and one dart for each of them")

    each = math.ceil(options.darts / options.tasks)
    started = time.perf_counter()
    with Master() as master:
        hits = sum(master.map(monte_pi, range(options.tasks), [each] * options.tasks, progress=True))
    darts = each * options.tasks
    share = hits / darts
    error = 4 * math.sqrt(share * (1 - share) / darts)
    print(f"pi is about {4 * share:.5f} ± {error:.5f}")
    print(f"{options.tasks} tasks, {darts:.2g} darts, {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    try:
        main()
    except PyMWError as error:
        raise SystemExit(f"monte_pi: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
