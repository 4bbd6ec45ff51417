"""`python -m pyboinc.package`: interpreters and applications for volunteers' computers."""

from __future__ import annotations

import argparse
import sys
import time

from pyboinc.package import build, cache, recipe, sources, toolchain


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pyboinc.package", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runtime = commands.add_parser("runtime", help="build the interpreter for a kind of machine, once per recipe")
    runtime.add_argument("--target", choices=sorted(recipe.TARGETS), default=recipe.X86_64.short)
    options = parser.parse_args(arguments)
    began = time.monotonic()

    def tell(step: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - began:4.0f} s] {step}\n")

    try:
        path = build.build(recipe.TARGETS[options.target], cache.default(), tell=tell)
    except (build.BuildError, sources.SourceError, toolchain.NoCompilerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
