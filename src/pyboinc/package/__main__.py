"""`python -m pyboinc.package`: interpreters and applications for volunteers' computers."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from pyboinc.package import application, build, cache, recipe, runtimes, sources, toolchain

_COMMANDS = ("runtime", "app")
_EXPECTED = (application.ApplicationError, build.BuildError, sources.SourceError, toolchain.NoCompilerError)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] not in (*_COMMANDS, "-h", "--help"):
        words = ["app", *words]
    options = _parser().parse_args(words)
    began = time.monotonic()

    def tell(step: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - began:4.0f} s] {step}\n")

    try:
        paths = _runtime(options, tell) if options.command == "runtime" else _app(options, tell)
    except _EXPECTED as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.writelines(f"{path}\n" for path in paths)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pyboinc.package",
        description="Interpreters and applications for volunteers' computers.",
        epilog="`python -m pyboinc.package work.py --platform linux-x86_64` is `app work.py --platform linux-x86_64`.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    known = sorted(runtimes.TARGETS)
    runtime = commands.add_parser("runtime", help="build the interpreter for a kind of machine, once per recipe")
    runtime.add_argument("--target", choices=known, default=recipe.X86_64.short, help="the kind of machine")
    runtime.add_argument("--archive", type=Path, help="with --from pbs: the file, already downloaded")
    app = commands.add_parser("app", help="make a BOINC application out of a Python program")
    app.add_argument("main", type=Path, help="the program: a file, or a folder with __main__.py")
    app.add_argument("beside", type=Path, nargs="*", help="modules, packages and data files that it imports or reads")
    app.add_argument("--name", help="the application's name; the program's own by default")
    app.add_argument("--version", default="1.0", help="the version's number")
    app.add_argument(
        "--platform", choices=known, action="append", help="a kind of machine; once for each; linux-x86_64 by default"
    )
    app.add_argument(
        "--output", action="append", default=[], help="an output that jobs declare with copy_file; once for each"
    )
    app.add_argument("--network", action="store_true", help="let the program use the network")
    app.add_argument("--no-sandbox", action="store_true", help="let the program reach all that the client can")
    app.add_argument("--out", type=Path, default=Path(), help="where to put apps/NAME/VERSION/PLATFORM")
    for each in (runtime, app):
        each.add_argument(
            "--from", dest="origin", choices=("sources", "pbs"), default="sources", help="pbs: python-build-standalone"
        )
    return parser


def _runtime(options: argparse.Namespace, tell: build.Tell) -> list[Path]:
    if options.origin == "pbs" or options.archive:
        return [file.path for file in runtimes.build_standalone(options.target, cache.default(), options.archive).files]
    return [file.path for file in runtimes.build_runtime(options.target, cache.default(), tell=tell).files]


def _app(options: argparse.Namespace, tell: build.Tell) -> list[Path]:
    made = application.Application(
        options.name or options.main.stem,
        options.main,
        tuple(options.beside),
        outputs=tuple(options.output),
        sandboxed=not options.no_sandbox,
        network=options.network,
    )
    targets = options.platform or [recipe.X86_64.short]
    ready_made = options.origin == "pbs"
    place = cache.default(), options.out
    return application.make(made, options.version, targets, *place, ready_made=ready_made, tell=tell)


if __name__ == "__main__":
    sys.exit(main())
