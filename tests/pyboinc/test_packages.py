"""Packages on a volunteer's computer: unpacked once and safely; and wheels made ready for it."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from pyboinc import packages
from pyboinc.package import sources, wheels
from pyboinc.packages import CACHE, DIGITS, PackageError, unpack


def tar(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, target
    return info


def sent(folder: Path, data: bytes) -> str:
    """As the client has it: under the digest of its content."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{hashlib.sha256(data).hexdigest()[:DIGITS]}.tar"
    path.write_bytes(data)
    return str(path)


def test_the_content_is_there_and_stays(tmp_path: Path) -> None:
    archive = sent(tmp_path, tar({"answer/__init__.py": b"x = 42\n", "answer/deep/data": b"\0" * 100_000}))
    place = Path(unpack(archive))
    assert place.parent == tmp_path / CACHE
    assert (place / "answer" / "deep" / "data").stat().st_size == 100_000
    before = place.stat().st_ino
    assert Path(unpack(archive)).stat().st_ino == before
    assert sorted(path.name for path in place.parent.iterdir() if not path.name.endswith(".lock")) == [place.name]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (tar({"../evil": b"x"}), "what does not belong there: ../evil"),
        (tar({"/etc/evil": b"x"}), "what does not belong there: /etc/evil"),
        (tar({"a\\..\\evil": b"x"}), "what does not belong there"),
        (tar({"c:evil": b"x"}), "what does not belong there"),
        (tar({"link": link(tarfile.SYMTYPE, "/etc/passwd")}), "what does not belong there: link"),
        (tar({"link": link(tarfile.LNKTYPE, "../../secret")}), "what does not belong there: link"),
        (tar({"link": link(tarfile.FIFOTYPE, "")}), "what does not belong there: link"),
        (tar({"big": b"x" * 20_000})[:9000], "is damaged"),
        (b"no archive at all", "is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_hostile_or_damaged_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes, told: str) -> None:
    archive = sent(tmp_path / "project", data)
    with pytest.raises(PackageError, match=told):
        unpack(archive)
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    left = [path for path in (tmp_path / "project" / CACHE).iterdir() if not path.name.endswith(".lock")]
    assert left == []


def test_a_tampered_archive_is_refused(tmp_path: Path) -> None:
    archive = sent(tmp_path, tar({"a": b"x"}))
    with Path(archive).open("r+b") as file:
        file.seek(512)
        file.write(b"y")
    with pytest.raises(PackageError, match="was tampered with"):
        unpack(archive)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    archive = sent(tmp_path, tar({"a": b"x" * 1_000_000}))
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pyboinc import packages\n"
        "try: packages.unpack(sys.argv[1])\nexcept packages.PackageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, archive], capture_output=True, text=True, check=True, timeout=60)
    assert "cannot be unpacked" in done.stdout
    assert [path for path in (tmp_path / CACHE).iterdir() if not path.name.endswith(".lock")] == []


def test_of_many_at_once_one_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = sent(tmp_path, tar({f"f{n}": os.urandom(1000) for n in range(200)}))
    made: list[str] = []
    make = packages._make
    monkeypatch.setattr(packages, "_make", lambda *given: (made.append(given[0]), make(*given)))
    places: list[str] = []
    threads = [threading.Thread(target=lambda: places.append(unpack(archive))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(places)) == 1
    assert len(places) == 8
    assert len(list(Path(places[0]).iterdir())) == 200
    assert len(made) == 1


def test_what_the_client_has_deleted_goes_with_the_next_one(tmp_path: Path) -> None:
    old = sent(tmp_path, tar({"a": b"old"}))
    gone = Path(unpack(old))
    Path(old).unlink()
    kept = Path(unpack(sent(tmp_path, tar({"a": b"new"}))))
    assert kept.exists()
    assert not gone.exists()


def test_a_cache_elsewhere_keeps_all(tmp_path: Path) -> None:
    archives = [sent(tmp_path / "sent", tar({"a": content})) for content in (b"one", b"two")]
    places = [Path(unpack(archive, str(tmp_path / "kept"))) for archive in archives]
    assert [(place / "a").read_bytes() for place in places] == [b"one", b"two"]


# Wheels.


def wheel(folder: Path, name: str, members: Mapping[str, str]) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def test_a_wheel_becomes_what_is_imported(tmp_path: Path) -> None:
    """Compiled, without tests, headers and scripts; the same wheel gives the same bytes."""
    members = {
        "answer/__init__.py": "x = 6 * 7\n",
        "answer/tests/test_it.py": "assert False\n",
        "answer/include/answer.h": "",
        "answer-1.0.dist-info/METADATA": "Name: answer\n",
        "answer-1.0.data/purelib/more.py": "y = 1\n",
        "answer-1.0.data/scripts/run": "#!python\n",
    }
    path = wheel(tmp_path, "answer-1.0-py3-none-any.whl", members)
    made = [wheels.normalise(path, Path(sys.executable), folder) for folder in (tmp_path, Path(f"{tmp_path}"))]
    assert made[0] == made[1]
    assert (made[0].name, made[0].version, made[0].native) == ("answer", "1.0", False)
    place = Path(unpack(str(made[0].path)))
    files = {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}
    tag = sys.implementation.cache_tag
    assert files == {
        "answer/__init__.py",
        f"answer/__pycache__/__init__.{tag}.pyc",
        "answer-1.0.dist-info/METADATA",
        "more.py",
        f"__pycache__/more.{tag}.pyc",
    }
    code = "import sys; from pyboinc import packages; packages.use(sys.argv[1:]); import answer, more; print(answer.x)"
    done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "42\n"


def test_a_wheel_that_reaches_outside_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, "evil-1.0-py3-none-any.whl", {"a/../../evil.py": ""})
    with pytest.raises(wheels.PackagingError, match="names a file outside of itself"):
        wheels.normalise(path, Path(sys.executable), tmp_path)


@pytest.mark.parametrize("requirement", ["numpy", "numpy>=2", "-r x", "numpy==2 --pre", "", "a==1;x", "git+ssh://x==1"])
def test_only_one_exact_version_is_taken(requirement: str) -> None:
    with pytest.raises(wheels.PackagingError, match="does not name one version"):
        wheels.checked(["numpy==2.2.6", requirement])
    assert wheels.checked(["b==1", "a[x,y]==2.0.post1", "b==1"]) == ("a[x,y]==2.0.post1", "b==1")


def test_where_debian_is_not_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sources.SourceError, match="apt-get is not installed"):
        wheels.compat("linux-x86_64", tmp_path / "cache", tmp_path)


def test_two_who_fetch_at_once_do_not_disturb_each_other(tmp_path: Path, lacking: Callable[[str], NoReturn]) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(sources.fetch_binary, "libgcc-s1/bookworm", "amd64", tmp_path) for _ in range(2)]
    try:
        one, other = (each.result() for each in both)
    except sources.SourceError as error:
        lacking(f"no package of Debian's: {error}")
    assert one == other
    assert list(one.rglob("libgcc_s.so.1"))
