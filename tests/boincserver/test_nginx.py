"""A real nginx in front: downloads come from it, the rest goes through, and the client's address is known."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boincserver import cli, project
from boincserver.control import Job
from boincserver.testing import SimulatedVolunteer, StockClient, configure, free_port, serving, wait_until
from boincserver.testing.serving import ServerProcess

from .conftest import add_app
from .test_stock_client import SHORT, collect

LIMIT = 120.0
AROUND = """\
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/project.conf;
}}
"""


@pytest.fixture
def front(
    tmp_path: Path, need: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[ServerProcess, str, Path]]:
    """The server behind nginx, the URL, and nginx's folder."""
    need("nginx")
    directory, folder = tmp_path / "project", tmp_path / "nginx"
    folder.mkdir()
    port, behind = free_port(), free_port()
    url = f"http://127.0.0.1:{port}/sub/project/"
    project.create(directory, url=url)
    assert cli.main(["nginx", str(directory)]) == 1  # both on one port
    assert f'listen = "127.0.0.1:{port + 1}"' in capsys.readouterr().err
    configure(directory, listen=f"127.0.0.1:{behind}", proxies=1)
    assert cli.main(["nginx", str(directory)]) == 0
    (folder / "project.conf").write_text(capsys.readouterr().out)
    # Where the tests run as root its workers would run as somebody who cannot read pytest's folders.
    around = AROUND.format(folder=folder)
    (folder / "nginx.conf").write_text(around if os.geteuid() != 0 else f"user root;\n{around}")
    command = ["nginx", "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with serving(directory) as server, subprocess.Popen(command) as nginx:
        try:
            wait_until(lambda: fetched(url, "")[0] == 200, timeout=LIMIT, what="nginx to pass the first request on")
            yield server, url, folder
        finally:
            nginx.terminate()
            nginx.wait(LIMIT)


def fetched(url: str, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    host, _, prefix = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=LIMIT)
    try:
        connection.request("GET", f"/{prefix}{path}", headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read(), {name.lower(): value for name, value in reply.getheaders()}
    except OSError:
        return 0, b"", {}
    finally:
        connection.close()


def test_downloads_come_from_nginx_and_nothing_else_does(
    front: tuple[ServerProcess, str, Path], tmp_path: Path
) -> None:
    server, url, _ = front
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 1000)
    name = server.control.put_file(path)
    [stored] = (server.directory / "download").glob(f"*/{name}")
    at = f"download/{stored.parent.name}/{name}"
    status, content, headers = fetched(url, at)
    assert (status, content) == (200, path.read_bytes())
    assert headers["server"].startswith("nginx")
    assert "immutable" in headers["cache-control"]
    assert headers["content-type"] == "application/octet-stream"
    status, content, headers = fetched(url, at, Range="bytes=1000-1999")
    assert (status, content) == (206, path.read_bytes()[1000:2000])
    (stored.parent / ".new-half").write_bytes(b"half a file")
    for secret in (
        f"download/{stored.parent.name}/.new-half",
        f"download/{stored.parent.name}/none",
        "download/../keys/code_sign_private",
        "download/x/../../project.toml",
        f"download/{stored.parent.name}/..%2f..%2fproject.toml",
        f"download/{stored.parent.name}/",
    ):
        assert fetched(url, secret)[0] in (400, 404), secret


def test_a_client_behind_it_is_known_by_its_own_address(front: tuple[ServerProcess, str, Path]) -> None:
    server, url, folder = front
    add_app(server.control, server.directory)
    batch = server.control.create_batch("upper", "b")
    server.control.create_jobs(batch.id, [Job("j", {"in": b"through\n"}, {"out": 1000}, **SHORT)])
    with SimulatedVolunteer(url, server.control.create_account("v@example.org"), ncpus=4) as volunteer:
        volunteer.step()
        volunteer.contact()
    [outcome] = server.control.outcomes(batch.id, wait=LIMIT)
    assert outcome.outputs["out"] == b"THROUGH\n"
    database = project.Project.open(server.directory).open_database()
    with database.engine.connect() as connection:
        [(address,)] = connection.exec_driver_sql("SELECT last_ip_addr FROM host").fetchall()
    database.close()
    assert address == "127.0.0.1"
    assert "/scheduler" in (folder / "access.log").read_text()


@pytest.mark.stock
def test_the_stock_client_works_through_it(front: tuple[ServerProcess, str, Path], need: Callable[..., None]) -> None:
    need("boinc", "boinccmd", "faketime")
    server, url, folder = front
    add_app(server.control, server.directory)
    batch = server.control.create_batch("upper", "b")
    jobs = [Job(f"j{n}", {"in": f"n {n}\n".encode()}, {"out": 1000}, **SHORT) for n in range(3)]
    server.control.create_jobs(batch.id, jobs)
    with StockClient(speed=20.0, ncpus=2) as client:
        client.attach(url, server.control.create_account("v@example.org"))
        outcomes = collect(server.control, batch.id, 3)
    assert {o.outputs["out"] for o in outcomes.values()} == {f"N {n}\n".encode() for n in range(3)}
    served = re.findall(r'"GET \S+/download/\S+ \S+" (\d+)', (folder / "access.log").read_text())
    assert served
    assert set(served) <= {"200", "206"}
    assert "/download/" not in server.log.read_text()


def test_the_doctor_sees_what_a_proxy_does(
    front: tuple[ServerProcess, str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server, _, folder = front
    directory = server.directory

    def doctor() -> tuple[list[str], list[str]]:
        cli.main(["doctor", str(directory), "--json"])
        document = json.loads(capsys.readouterr().out)
        return document["findings"], [text for text in document["advice"] if "prox" in text]

    assert doctor() == ([], [])
    configure(directory, proxies=0)
    findings, (text,) = doctor()
    assert findings == []
    assert "a proxy (nginx" in text
    listen = project.Project.open(directory).config.listen
    configure(directory, proxies=1, listen=listen.replace("127.0.0.1", "0.0.0.0"))
    assert "whoever comes past the proxy may claim any address" in doctor()[1][0]
    configure(directory, listen=listen)
    # As nginx is when nobody tells it otherwise.
    text = (folder / "project.conf").read_text()
    (folder / "project.conf").write_text(re.sub(r"client_max_body_size 0;|proxy_request_buffering off;", "", text))
    os.kill(int((folder / "pid").read_text()), signal.SIGHUP)
    # For a while the workers of before take some of the connections.
    (finding,) = wait_until(lambda: doctor()[0], timeout=LIMIT, what="nginx to work with these settings")
    assert "an upload of 3 MB" in finding
