"""A task whose child runs in the sandbox: what it reaches, what it does not, and how its outputs get out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyboinc import sandbox
from pyboinc.testing import FakeClient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these layers")

Start = Callable[..., FakeClient]
MAIN = """
import sys
from pyboinc.sandbox import Policy
from pyboinc.supervisor import supervise
policy = Policy(read=[{child!r}, {source!r}], require=REQUIRE)
sys.exit(supervise([sys.executable, {child!r}, *ARGUMENTS], sandbox=policy, outputs=["plain"]))
"""


@pytest.fixture
def confined(start: Start) -> Callable[..., FakeClient]:
    if sandbox.FILES not in sandbox.available():
        pytest.skip("this kernel has no Landlock")
    source = str(Path(sandbox.__file__).parents[2])

    def run(child: str, require: str = "[]", arguments: tuple[str, ...] = ()) -> FakeClient:
        main = MAIN.replace("{source!r}", repr(source)).replace("REQUIRE", require)
        main = main.replace("ARGUMENTS", repr(arguments))
        return start(child, main=main)

    return run


def test_inputs_in_and_outputs_out(confined: Start, client: FakeClient) -> None:
    client.link("in", "wu_1_in").write_text("given")
    client.link("data/table", "wu_1_table").write_text("rows")
    (client.slot / "copied").write_text("a real file")
    out, nested = client.link("out", "wu_1_out"), client.link("results/part", "wu_1_part")
    confined("""
        def read(name): return open(pyboinc.resolve(name)).read()
        assert (read("in"), read("data/table"), read("copied")) == ("given", "rows", "a real file")
        for name in ("out", "results/part", "plain"):
            open(pyboinc.resolve(name), "w").write(f"made {name}")
        assert pyboinc.init_data().result_name == "wu_1_0"
        pyboinc.checkpoint.save(b"state")
        assert pyboinc.checkpoint.load() == b"state"
    """)
    assert client.finish() == 0, client.stderr()
    assert (out.read_text(), nested.read_text()) == ("made out", "made results/part")
    assert (client.slot / "plain").read_text() == "made plain"
    assert f"sandbox: {sandbox.available()}" in client.stderr()


@pytest.mark.parametrize(
    "path", ["init_data.xml", "boinc_mmap_file", "boinc_lockfile", "stderr.txt", "../../projects/example.org/other"]
)
def test_the_clients_files_are_out_of_reach(confined: Start, client: FakeClient, path: str) -> None:
    (client.project / "other").write_text("another job's")
    confined(f"""
        path = os.path.join(os.environ["PYBOINC_SLOT"], {path!r})
        for mode in ("rb", "r+b"):
            try:
                open(path, mode)
            except PermissionError:
                continue
            sys.exit(f"opened {{path}}")
        time.sleep(1)
    """)
    assert client.finish() == 0, client.stderr()
    assert client.reports > 0


def test_inputs_are_not_changed(confined: Start, client: FakeClient) -> None:
    client.link("in", "wu_1_in").write_text("given")
    confined("open(pyboinc.resolve('in'), 'w')")
    assert client.finish() == 1
    assert "PermissionError" in client.stderr()


def test_arguments_are_left_as_they_are(confined: Start, client: FakeClient) -> None:
    """Those that are called like files became the paths of these, where outputs cannot be written."""
    client.link("in", "wu_1_in").write_text("given")
    out = client.link("out", "wu_1_out")
    child = """
        import sys
        assert sys.argv[1:] == ["in", "out"], sys.argv
        open(pyboinc.resolve(sys.argv[2]), "w").write(open(pyboinc.resolve(sys.argv[1])).read())
    """
    confined(child, arguments=("in", "out"))
    assert client.finish() == 0, client.stderr()
    assert out.read_text() == "given"


def test_an_output_is_there_when_its_early_upload_is_asked_for(confined: Start, client: FakeClient) -> None:
    part = client.link("part", "wu_1_part")
    confined("""
        with open(pyboinc.resolve("part"), "w") as file:
            file.write("first")
        pyboinc.upload("part")
        while pyboinc.uploaded("part") is None:
            time.sleep(0.02)
        with open(pyboinc.resolve("part"), "a") as file:
            file.write(" and second")
    """)
    client.until(lambda: (client.slot / "boinc_ufr_part").exists())
    assert part.read_text() == "first"
    client.upload_done("part", 0)
    assert client.finish() == 0, client.stderr()
    assert part.read_text() == "first and second"


def test_an_output_that_the_client_made_a_real_link_of(confined: Start, client: FakeClient) -> None:
    out = client.link("out", "wu_1_out")
    (client.slot / "out").unlink()
    (client.slot / "out").symlink_to(out)
    confined('open(pyboinc.resolve("out"), "w").write("made")')
    assert client.finish() == 0, client.stderr()
    assert out.read_text() == "made"


def test_no_file_is_larger_than_the_jobs_bound(confined: Start, client: FakeClient) -> None:
    """Also between two looks of the supervisor at the disk."""
    client.write_init_data(rsc_disk_bound=1e6)
    confined("""
        try:
            with open("large", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 2_000_000)
        except OSError as error:
            sys.exit(7)
    """)
    assert client.finish() == 7, client.stderr()


def test_a_link_is_no_output(confined: Start, client: FakeClient) -> None:
    out = client.link("out", "wu_1_out")
    confined("os.symlink('/etc/passwd', pyboinc.resolve('out'))")
    assert client.finish() == 0
    assert not out.exists()
    assert not out.is_symlink()
    assert "output out is not taken: it is a link" in client.stderr()


def test_a_linked_folder_is_no_way_to_an_output(confined: Start, client: FakeClient, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "part").write_text("the volunteer's own")
    out = client.link("results/part", "wu_1_part")
    confined(f"os.rmdir('results'); os.symlink({str(tmp_path / 'elsewhere')!r}, 'results')")
    assert client.finish() == 0, client.stderr()
    assert not out.exists()
    assert (tmp_path / "elsewhere" / "part").exists()


def test_an_interrupted_episode_keeps_its_outputs(confined: Start, client: FakeClient) -> None:
    out = client.link("out", "wu_1_out")
    child = """
        with open(pyboinc.resolve("out"), "a") as file:
            file.write("x")
        pyboinc.fraction_done(0.5)
        while pyboinc.checkpoint.load() is None:
            if pyboinc.checkpoint.due():
                pyboinc.checkpoint.save(b"")
                time.sleep(600)
            time.sleep(0.02)
    """
    confined(child)
    client.until(lambda: client.fraction == 0.5)
    client.say("quit")
    assert client.finish() == 0
    assert not out.exists()
    confined(child)
    assert client.finish() == 0, client.stderr()
    assert out.read_text() == "xx"


def test_a_second_episode_knows_its_outputs(confined: Start, client: FakeClient) -> None:
    out = client.link("out", "wu_1_out")
    child = "open(pyboinc.resolve('out'), 'a').write('x'); sys.exit(len(pyboinc.checkpoint.load() or b'12'))"
    confined(child)
    assert client.finish() == 2
    confined("pyboinc.checkpoint.save(b''); open(pyboinc.resolve('out'), 'w').write('again')")
    assert client.finish() == 0, client.stderr()
    assert out.read_text() == "again"


def test_less_than_the_job_requires_is_a_failure_of_the_host(start: Start, client: FakeClient) -> None:
    main = """
        import sys
        from pyboinc import sandbox
        import pyboinc.confine
        pyboinc.confine.available = lambda policy: sandbox.Level(["limits"])
        from pyboinc.supervisor import supervise
        sys.exit(supervise([sys.executable, {child!r}], sandbox=sandbox.Policy(require=["files"])))
    """
    start("raise SystemExit('it ran')", main=main)
    assert client.finish() == 206
    assert "requires a sandbox that this host lacks: files" in client.stderr()
