"""Run the benches: all of them, or those named: ``python -m bench local server``."""

import importlib
import pkgutil
import sys
import time

import bench


def main() -> None:
    """Call the `main()` of each bench in turn."""
    known = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_"))
    chosen = sys.argv[1:] or known
    for name in chosen:
        if name not in known:
            sys.exit(f"there is no bench {name!r}; there are: {', '.join(known)}")
    for name in chosen:
        print(f"\n== {name} ==", flush=True)
        started = time.perf_counter()
        importlib.import_module(f"bench.{name}").main()
        print(f"({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
