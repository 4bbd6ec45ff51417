"""Any Python program as a BOINC application."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from pyboinc.package import application, cache, recipe
from pyboinc.package.__main__ import main
from pyboinc.package.application import Application, ApplicationError
from pyboinc.testing import FakeClient

PROGRAM = """
import sys
import pyboinc
from words import WORD
with open(pyboinc.resolve("in")) as file:
    number = int(file.read())
pyboinc.fraction_done(0.5)
with open(pyboinc.resolve("out"), "w") as file:
    file.write(f"{WORD} {number ** 2} {sys.argv[1:]}")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "words.py").write_text("WORD = 'squared:'\n")
    (folder / "square.py").write_text(PROGRAM)
    return folder / "square.py"


@pytest.fixture
def built(interpreter: Path) -> Path:
    return interpreter


def packaged(program: Path, out: Path, *options: str) -> Path:
    arguments = ["app", str(program), str(program.with_name("words.py")), "--out", str(out), *options]
    assert main(arguments) == 0
    return out / "apps" / "square" / "1.0" / recipe.X86_64.platform


def test_a_packaged_program_runs_in_a_slot(built: Path, program: Path, tmp_path: Path, client: FakeClient) -> None:
    folder = packaged(program, tmp_path)
    version = ET.parse(folder / "version.xml").getroot()
    names = {file.findtext("logical_name", ""): file.findtext("physical_name", "") for file in version.iter("file")}
    assert version.findtext("api_version") == "7.5.0"
    [started] = [
        file.findtext("physical_name", "") for file in version.iter("file") if file.find("main_program") is not None
    ]
    for name in names.values():
        shutil.copy(folder / name, client.project)
    client.link("main.zip", names["main.zip"])
    client.link("in", "wu_in").write_text("12")
    out = client.link("out", "wu_out")
    client.start([f"../../projects/example.org/{started}", "--extra", "word"])
    assert client.finish() == 0, client.stderr()
    assert out.read_text() == "squared: 144 ['--extra', 'word']"


def test_the_same_program_gives_the_same_files(built: Path, program: Path, tmp_path: Path) -> None:
    one, other = packaged(program, tmp_path / "one"), packaged(program, tmp_path / "other")
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }
    program.write_text(program.read_text() + "# changed\npass\n")
    changed = packaged(program, tmp_path / "changed")
    assert len({path.name for folder in (one, changed) for path in folder.glob("square_*.zip")}) == 2


def test_a_version_is_never_made_twice(
    built: Path, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packaged(program, tmp_path)
    for words in (["app"], []):  # the word may be left out
        assert main([*words, str(program), "--out", str(tmp_path)]) == 1
        assert "choose another version" in capsys.readouterr().err


def test_a_program_of_a_later_python_is_refused(built: Path, program: Path, tmp_path: Path) -> None:
    program.write_text("def broken(:\n")
    with pytest.raises(ApplicationError, match=r"(?s)does not take it.*square\.py"):
        application.make_zip(Application("square", program), built, tmp_path / "out.zip")


@pytest.mark.parametrize(
    ("name", "main_file", "said"),
    [("a/b", "square.py", "one word"), ("square", "missing.py", "there is no"), ("square", ".", "no __main__.py")],
)
def test_bad_input_is_said(program: Path, name: str, main_file: str, said: str) -> None:
    with pytest.raises(ApplicationError, match=said):
        Application(name, program.parent / main_file)


def test_every_option_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "pyboinc.md").read_text()
    for command in ("runtime", "app"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        options = {word.strip(",[]") for word in capsys.readouterr().out.split() if word.strip("[").startswith("--")}
        missing = {option for option in options - {"--help"} if f"`{option}`" not in page and f"{option} " not in page}
        assert not missing, command


def test_without_the_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    from pyboinc.package import toolchain

    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(toolchain.NoCompilerError, match=f"pip install ziglang=={recipe.ZIG_VERSION}"):
        toolchain.find_zig()


def test_a_cache_that_no_configure_script_can_work_in_is_said(tmp_path: Path) -> None:
    from pyboinc.package import sources

    with pytest.raises(sources.SourceError, match="no blanks in paths"):
        sources.unpack(recipe.PYTHON, tmp_path, tmp_path / "with blank" / "tree")


def test_a_tampered_source_is_refused(tmp_path: Path) -> None:
    from pyboinc.package import sources

    (tmp_path / "x.dsc").write_text("other")
    with pytest.raises(sources.SourceError, match="not what the recipe names"):
        sources.check(tmp_path / "x.dsc", "0" * 64)
    assert not (tmp_path / "x.dsc").exists()


@pytest.mark.stock
def test_the_stock_client_runs_it_in_the_sandbox(
    built: Path, program: Path, tmp_path: Path, need: Callable[..., None]
) -> None:
    """Two jobs, the interpreter sent compressed and started by the client, nothing of the host's Python."""
    need("boinc", "boinccmd")
    pytest.importorskip("sqlalchemy", reason="the project server needs the extra 'server'")
    from boincserver import project
    from boincserver.control import AppFile, Job, JobOutcome
    from boincserver.testing import StockClient, free_port, serving, wait_until

    # At the true speed: libfaketime needs /dev/shm, which the sandbox keeps shut.
    made = Application("square", program, (program.with_name("words.py"),))
    files = application.files(made, recipe.X86_64.short, cache.default(), tmp_path / "files")
    project.create(
        tmp_path / "project", f"http://127.0.0.1:{free_port()}/", name="Application test", open_accounts=True
    )
    with serving(tmp_path / "project") as server, StockClient(ncpus=2) as client:
        control = server.control
        control.ensure_app("square")
        described = [AppFile(file.path, file.open_name, file.main_program) for file in files]
        control.ensure_app_version(
            "square", recipe.X86_64.platform, None, described, api_version=application.API_VERSION
        )
        batch = control.create_batch("square", "batch").id
        jobs = [Job(f"square_{n}", {"in": str(n).encode()}, {"out": 1000}, rsc_fpops_est=1e9) for n in (3, 4)]
        control.create_jobs(batch, jobs)
        client.attach(control.info().url, control.create_account("v@example.org"))
        outcomes: list[JobOutcome] = []

        def complete() -> bool:
            outcomes.extend(control.outcomes(batch, after=outcomes[-1].seq if outcomes else 0, wait=0.5))
            return len(outcomes) == 2

        wait_until(complete, timeout=90, what="both outcomes")
    assert {outcome.name: outcome.outputs.get("out") for outcome in outcomes} == {
        "square_3": b"squared: 9 []",
        "square_4": b"squared: 16 []",
    }, [attempt.stderr for outcome in outcomes for attempt in outcome.attempts]
    for outcome in outcomes:
        assert "sandbox: " in outcome.attempts[-1].stderr
