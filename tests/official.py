"""A stand-in for the official server's own programs: what they do to the tables and folders of a project.

Transitioner, scheduler, upload handler and file deleter of server version 1.1, as far as jobs meet them, written down
from their published behaviour. The worker that it runs is the real one.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pymysql
from tests.mariadb import MariaDB

from boincserver import signing
from boincserver.testing.slot import run_in_slot
from boincserver.testing.wire import Assignment, Finished, parse_reply
from pymw.cli import main

NEVER = 2**31 - 1
LIMIT = 120.0
PLATFORM = "x86_64-pc-linux-gnu"
UNSENT, IN_PROGRESS, OVER = 2, 4, 5
SUCCESS, CLIENT_ERROR, NO_REPLY, DIDNT_NEED, VALIDATE_ERROR = 1, 3, 4, 5, 6
CONFIG = """<?xml version="1.0" ?>
<boinc>
    <config>
        <host>{host}</host>
        <master_url>http://boinc.example.org/pi/</master_url>
        <db_name>{database}</db_name>
        <db_user>boincadm</db_user>
        <db_passwd>{password}</db_passwd>
        <db_host>localhost</db_host>
        <db_socket>{socket}</db_socket>
        <download_dir>{directory}/download</download_dir>
        <download_url>http://boinc.example.org/pi/download</download_url>
        <upload_dir>{directory}/upload</upload_dir>
        <upload_url>http://boinc.example.org/pi_cgi/file_upload_handler</upload_url>
        <key_dir>{directory}/keys/</key_dir>
        <uldl_dir_fanout>1024</uldl_dir_fanout>
        <one_result_per_user_per_wu>1</one_result_per_user_per_wu>
        <daily_result_quota>500</daily_result_quota>
        <delete_delay_hours>0</delete_delay_hours>
    </config>
    <tasks>
    </tasks>
    <daemons>
        <daemon>
            <cmd>feeder -d 3</cmd>
        </daemon>
        <daemon>
            <cmd>transitioner -d 3</cmd>
        </daemon>
    </daemons>
</boinc>
"""
PROJECT = """<boinc>
    <platform>
        <name>x86_64-pc-linux-gnu</name>
        <user_friendly_name>Linux running on an AMD x86_64 or Intel EM64T CPU</user_friendly_name>
    </platform>
    <app>
        <name>uppercase</name>
        <user_friendly_name>upperCASE</user_friendly_name>
    </app>
</boinc>
"""
Tamper = Callable[[dict[str, bytes]], dict[str, bytes]]


class OfficialServer:
    """A project of the official software in a folder, with its database and what runs there."""

    def __init__(self, directory: Path, mariadb: MariaDB) -> None:
        self.directory = directory
        for folder in ("apps", "bin", "download", "html", "keys", "templates", "upload"):
            (directory / folder).mkdir(parents=True)
        self.database = re.search(r"project\d+", mariadb.create())[0]  # type: ignore[index]
        self._connect: Callable[[str], Any] = lambda name: pymysql.connect(
            unix_socket=str(mariadb.socket), user="root", database=name, autocommit=True,
            cursorclass=pymysql.cursors.DictCursor,
        )  # fmt: skip
        self.root = self._connect(self.database)
        for statement in (Path(__file__).parent / "official_tables.sql").read_text().split(";\n"):
            if statement.strip():
                self.sql(statement)
        self.sql("CREATE USER IF NOT EXISTS boincadm@localhost IDENTIFIED BY 'secret <&> word'")
        self.sql(f"GRANT ALL ON {self.database}.* TO boincadm@localhost")
        self.config = {
            "host": "here", "database": self.database, "password": "secret &lt;&amp;&gt; word",
            "socket": mariadb.socket, "directory": directory,
        }  # fmt: skip
        (directory / "config.xml").write_text(CONFIG.format(**self.config))
        (directory / "project.xml").write_text(PROJECT)
        self.code_key, self.upload_key = signing.generate(), signing.generate()

    def close(self) -> None:
        self.root.close()

    def sql(self, statement: str, *values: object) -> list[dict[str, Any]]:
        with self.root.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def insert(self, table: str, **values: object) -> int:
        """A row whose other columns are 0 or empty, as the official programs write it."""
        for column in self.sql(f"SHOW COLUMNS FROM {table}"):
            if column["Null"] == "NO" and column["Default"] is None and not column["Extra"]:
                text = any(kind in column["Type"] for kind in ("char", "text", "blob"))
                values.setdefault(column["Field"], "" if text else 0)
        marks = ", ".join(["%s"] * len(values))
        with self.root.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values()))
            return int(cursor.lastrowid)

    def one(self, table: str, column: str, value: object) -> dict[str, Any]:
        (row,) = self.sql(f"SELECT * FROM {table} WHERE {column} = %s", value)
        return row

    @property
    def backend(self) -> str:
        return f"boinc:{self.directory}"

    # --- the operator's tools

    def install(self, *words: str) -> None:
        """`pymw boinc install-app`, bin/xadd, bin/update_versions."""
        assert main(["boinc", "install-app", str(self.directory), *words]) == 0
        self.xadd()
        self.update_versions()

    def xadd(self) -> None:
        now = int(time.time())
        for element in ET.parse(self.directory / "project.xml").getroot():
            name, shown = element.findtext("name"), element.findtext("user_friendly_name")
            if not self.sql(f"SELECT id FROM {element.tag} WHERE name = %s", name):
                self.insert(element.tag, create_time=now, name=name, user_friendly_name=shown)

    def update_versions(self) -> None:
        for place in sorted(self.directory.glob("apps/*/*.*/*")):
            app, number, platform = place.parts[-3:]
            version = int(number.replace(".", ""))
            ids = {
                "appid": self.one("app", "name", app)["id"],
                "platformid": self.one("platform", "name", platform)["id"],
            }
            if self.sql(
                "SELECT id FROM app_version WHERE appid = %s AND platformid = %s AND version_num = %s",
                *ids.values(),
                version,
            ):
                continue
            infos = refs = ""
            for file in ET.parse(place / "version.xml").getroot().findall("file"):
                name = file.findtext("physical_name", "")
                data = (place / name).read_bytes()
                target = self.hierarchy("download", name, make=True)
                target.write_bytes(data)
                main_program = file.find("main_program") is not None
                infos += (
                    f"<file_info>\n    <name>{name}</name>\n    <url>{self.url(name)}</url>\n"
                    f"{'    <executable/>' if main_program else ''}\n    <file_signature>\n"
                    f"{signing.sign(data, self.code_key)}</file_signature>\n    <nbytes>{len(data)}</nbytes>\n"
                    f"    <md5_cksum>{hashlib.md5(data).hexdigest()}</md5_cksum>\n</file_info>\n"
                )
                logical = file.findtext("logical_name")
                refs += f"<file_ref>\n    <file_name>{name}</file_name>\n" + (
                    "    <main_program/>\n" if main_program else f"    <open_name>{logical}</open_name>\n"
                ) + "</file_ref>\n"  # fmt: skip
            document = (
                f"{infos}<app_version>\n    <app_name>{app}</app_name>\n    <version_num>{version}</version_num>\n"
                f"    <api_version>7.5.0</api_version>\n{refs}</app_version>\n"
            )
            self.insert("app_version", create_time=int(time.time()), version_num=version, xml_doc=document, **ids)

    def volunteer(self, name: str, tamper: Tamper | None = None) -> OfficialHost:
        now = int(time.time())
        user = self.insert(
            "user", create_time=now, email_addr=f"{name}@example.org", name=name, authenticator=hashlib.md5(name.encode()).hexdigest()
        )  # fmt: skip
        host = self.insert("host", create_time=now, userid=user, rpc_time=now, p_ncpus=2, domain_name=name)
        return OfficialHost(self, host, user, tamper)

    # --- folders

    def hierarchy(self, root: str, name: str, *, make: bool = False) -> Path:
        folder = self.directory / root / format(int(hashlib.md5(name.encode()).hexdigest()[1:8], 16) % 1024, "x")
        if make:
            folder.mkdir(exist_ok=True)
        return folder / name

    def url(self, name: str) -> str:
        return f"http://boinc.example.org/pi/download/{self.hierarchy('download', name).parent.name}/{name}"

    def fetch(self, url: str) -> bytes:
        """What the web server would send."""
        assert url.startswith("http://boinc.example.org/pi/download/")
        return (self.directory / url.removeprefix("http://boinc.example.org/pi/")).read_bytes()

    # --- transitioner

    def transition(self) -> int:
        """Every workunit whose time has come; returns how many."""
        due = self.sql("SELECT * FROM workunit WHERE transition_time <= %s ORDER BY transition_time", int(time.time()))
        for workunit in due:
            # Whoever changes something from now on sets a time before this one, which is kept.
            self.sql("UPDATE workunit SET transition_time = %s WHERE id = %s", NEVER, workunit["id"])
            self._transition(self.one("workunit", "id", workunit["id"]))
        return len(due)

    def _transition(self, wu: dict[str, Any]) -> None:
        now, before = int(time.time()), dict(wu)
        results = self.sql("SELECT * FROM result WHERE workunitid = %s ORDER BY id", wu["id"])
        canonical = next((each for each in results if each["id"] == wu["canonical_resultid"]), None)
        for result in results:
            if result["server_state"] == IN_PROGRESS and result["report_deadline"] < now:
                self._change(result, server_state=OVER, outcome=NO_REPLY)
            if self._is_new(result) and canonical and canonical["file_delete_state"] == 2:
                self._change(result, validate_state=5)
        unsent, out, good, bad = self._counted(results)
        if any(map(self._is_new, results)) and good >= wu["min_quorum"]:
            wu["need_validate"] = 1
        if bad > wu["max_error_results"]:
            wu["error_mask"] |= 2
        needed, allowed = max(0, wu["target_nresults"] - unsent - out - good), wu["max_total_results"] - len(results)
        if allowed < 0 or (allowed == 0 and needed):
            wu["error_mask"] |= 8
        if wu["error_mask"]:
            for result in results:
                if result["server_state"] in (1, UNSENT):
                    self._change(result, server_state=OVER, outcome=DIDNT_NEED)
                elif result["outcome"] == SUCCESS and result["validate_state"] in (0, 4):
                    self._change(result, validate_state=3)
            wu["assimilate_state"] = wu["assimilate_state"] or 1
        elif not wu["canonical_resultid"]:
            first = 1 + max([int(each["name"].rpartition("_")[2]) for each in results], default=-1)
            for number in range(first, first + min(needed, allowed)):
                self._create_result(wu, f"{wu['name']}_{number}")
        settled = all(
            each["server_state"] == OVER
            and not self._is_new(each)
            and not (each["outcome"] == NO_REPLY and now < each["report_deadline"])
            for each in results
        )
        if wu["assimilate_state"] == 2:
            if settled and not wu["file_delete_state"]:
                wu["file_delete_state"] = 1
            for result in results:
                over = result["outcome"] == CLIENT_ERROR or (result["outcome"] == SUCCESS and result["validate_state"])
                if over and not result["file_delete_state"] and (result is not canonical or settled):
                    self._change(result, file_delete_state=1)
        ended = wu["canonical_resultid"] or wu["error_mask"]
        wu["transition_time"] = NEVER if ended else now + max(10 * 86400, 3 * wu["delay_bound"] // 2)
        for result in results:
            if result["server_state"] == IN_PROGRESS:
                wu["transition_time"] = min(wu["transition_time"], result["report_deadline"])
        changed = {name: value for name, value in wu.items() if value != before[name] and name != "transition_time"}
        assignments = "".join(f"{name} = %s, " for name in changed)
        self.sql(
            f"UPDATE workunit SET {assignments}transition_time = LEAST(transition_time, %s) WHERE id = %s",
            *changed.values(), wu["transition_time"], wu["id"],
        )  # fmt: skip

    def _change(self, result: dict[str, Any], **values: int) -> None:
        result.update(values)
        assignments = ", ".join(f"{name} = %s" for name in values)
        self.sql(f"UPDATE result SET {assignments} WHERE id = %s", *values.values(), result["id"])

    @staticmethod
    def _is_new(result: Mapping[str, Any]) -> bool:
        return bool(result["outcome"] == SUCCESS and result["validate_state"] == 0)

    @staticmethod
    def _counted(results: list[dict[str, Any]]) -> tuple[int, int, int, int]:
        unsent = sum(each["server_state"] in (1, UNSENT) for each in results)
        out = sum(each["server_state"] == IN_PROGRESS for each in results)
        good = sum(each["outcome"] == SUCCESS and each["validate_state"] != 2 for each in results)
        bad = sum(
            each["outcome"] == VALIDATE_ERROR or (each["outcome"] == CLIENT_ERROR and each["exit_status"] != 203)
            for each in results
        )
        return unsent, out, good, bad

    def _create_result(self, wu: Mapping[str, Any], name: str) -> None:
        """From the output template: names that nobody can guess, and each with a certificate for its upload."""
        text = (self.directory / wu["result_template_file"]).read_text()
        prefix = f"{name}_r{random.randrange(2**31)}_"
        text = re.sub(r"<OUTFILE_(\d+)/>", lambda found: prefix + found[1], text)
        text = text.replace("<UPLOAD_URL/>", "http://boinc.example.org/pi_cgi/file_upload_handler")
        parts = text.split("</file_info>")
        for number, part in enumerate(parts[:-1]):
            file, size = re.search(r"<name>(.*?)</name>", part), re.search(r"<max_nbytes>(.*?)</max_nbytes>", part)
            assert file is not None
            assert size is not None
            signed = f"<name>{file[1]}</name><max_nbytes>{float(size[1]):.0f}</max_nbytes>"
            signature = signing.sign(signed.encode(), self.upload_key)
            parts[number] = f"{part}<xml_signature>\n{signature}</xml_signature>\n"
        text = "</file_info>".join(parts).replace("<output_template>", "").replace("</output_template>", "").strip()
        self.insert(
            "result", create_time=int(time.time()), workunitid=wu["id"], server_state=UNSENT, name=name, xml_doc_in=text,
            batch=wu["batch"], random=random.randrange(2**31), appid=wu["appid"], priority=wu["priority"],
        )  # fmt: skip

    # --- scheduler and upload handler

    def send(self, host: int, user: int) -> tuple[int, Assignment] | None:
        """A copy that this host may have, as its client reads it from the reply."""
        now = int(time.time())
        self.sql("UPDATE host SET rpc_time = %s WHERE id = %s", now, host)
        for row in self.sql("SELECT * FROM result WHERE server_state = %s ORDER BY priority DESC, id", UNSENT):
            if self.sql("SELECT id FROM result WHERE workunitid = %s AND userid = %s", row["workunitid"], user):
                continue
            wu = self.one("workunit", "id", row["workunitid"])
            version = self.sql(
                "SELECT * FROM app_version WHERE appid = %s AND deprecated = 0 ORDER BY version_num DESC LIMIT 1", row["appid"]
            )  # fmt: skip
            if wu["error_mask"] or not version:
                continue
            self._replicate(wu, host, version[0]["id"])
            deadline = now + wu["delay_bound"]
            with self.root.cursor() as cursor:
                taken = cursor.execute(
                    "UPDATE result SET server_state = 4, hostid = %s, userid = %s, sent_time = %s, report_deadline = %s, "
                    "app_version_id = %s, app_version_num = %s WHERE id = %s AND server_state = 2",
                    (host, user, now, deadline, version[0]["id"], version[0]["version_num"], row["id"]),
                )
            if not taken:
                continue
            self.sql(
                "UPDATE workunit SET transition_time = LEAST(transition_time, %s) WHERE id = %s", deadline, wu["id"]
            )
            if not self.sql(
                "SELECT host_id FROM host_app_version WHERE host_id = %s AND app_version_id = %s",
                host,
                version[0]["id"],
            ):
                self.insert("host_app_version", host_id=host, app_version_id=version[0]["id"], max_jobs_per_day=500)
            return row["id"], self._as_sent(row, wu, version[0], deadline)
        return None

    def _replicate(self, wu: Mapping[str, Any], host: int, version: int) -> None:
        """Adaptive replication: a job that was to go alone goes to several, unless this host is trusted."""
        copies = self.one("app", "id", wu["appid"])["target_nresults"]
        if wu["target_nresults"] != 1 or copies <= 1:
            return
        record = self.sql(
            "SELECT consecutive_valid FROM host_app_version WHERE host_id = %s AND app_version_id = %s", host, version
        )
        valid = record[0]["consecutive_valid"] if record else 0
        if valid < 10 or random.random() <= 1 / valid:
            self.sql(
                "UPDATE workunit SET target_nresults = %s, min_quorum = %s, transition_time = %s WHERE id = %s",
                copies,
                copies,
                int(time.time()),
                wu["id"],
            )

    def _as_sent(
        self, row: Mapping[str, Any], wu: Mapping[str, Any], version: Mapping[str, Any], deadline: int
    ) -> Assignment:
        app = self.one("app", "id", row["appid"])["name"]
        limits = "".join(
            f"<{name}>{wu[name]:f}</{name}>\n"
            for name in ("rsc_fpops_est", "rsc_fpops_bound", "rsc_memory_bound", "rsc_disk_bound")
        )
        job = wu["xml_doc"].decode().replace(
            "<workunit>", f"<workunit>\n<name>{wu['name']}</name>\n<app_name>{app}</app_name>\n{limits}", 1
        )  # fmt: skip
        copy = (
            row["xml_doc_in"]
            .decode()
            .replace(
                "<result>",
                f"<result>\n<name>{row['name']}</name>\n<wu_name>{wu['name']}</wu_name>\n<report_deadline>{deadline}</report_deadline>",
                1,
            )
        )
        reply = f"<scheduler_reply>\n{version['xml_doc'].decode()}{job}{copy}\n</scheduler_reply>\n"
        (assignment,) = parse_reply(reply.encode()).assignments
        return assignment

    def is_aborted(self, result: int) -> bool:
        """Whether the reply to a host that has this copy says so."""
        row = self.one("result", "id", result)
        return bool(self.one("workunit", "id", row["workunitid"])["error_mask"] & 16)

    def receive(self, name: str, data: bytes) -> None:
        """The upload handler keeps an output."""
        self.hierarchy("upload", name, make=True).write_bytes(data)

    def read_upload(self, result: str) -> bytes:
        """The output of a copy."""
        (path,) = (self.directory / "upload").glob(f"*/{result}_r*_0")
        return path.read_bytes()

    def report(self, result: int, finished: Finished) -> None:
        text, now = finished.text(), int(time.time())
        outcome = SUCCESS if finished.state == 5 and finished.exit_status == 0 else CLIENT_ERROR
        stderr = text.partition("<stderr_out>\n")[2].partition("\n</stderr_out>")[0]
        infos = text.partition("</stderr_out>\n")[2].removesuffix("</result>\n")
        self.sql(
            "UPDATE result SET server_state = 5, outcome = %s, client_state = %s, exit_status = %s, received_time = %s, "
            "cpu_time = %s, elapsed_time = %s, stderr_out = %s, xml_doc_out = %s, validate_state = %s WHERE id = %s",
            outcome, finished.state, finished.exit_status, now, finished.cpu, finished.elapsed, stderr, infos,
            0 if outcome == SUCCESS else 2, result,
        )  # fmt: skip
        self.sql(
            "UPDATE workunit SET transition_time = %s WHERE id = %s",
            now,
            self.one("result", "id", result)["workunitid"],
        )

    # --- file deleter

    def delete_files(self) -> None:
        for table, document, root in (("workunit", "xml_doc", "download"), ("result", "xml_doc_in", "upload")):
            for row in self.sql(f"SELECT * FROM {table} WHERE file_delete_state = 1"):
                for info in re.findall(r"<file_info>(.*?)</file_info>", row[document].decode(), re.DOTALL):
                    if "<no_delete/>" not in info:
                        name = re.search(r"<name>(.*?)</name>", info)
                        assert name is not None
                        self.hierarchy(root, name[1]).unlink(missing_ok=True)
                self.sql(f"UPDATE {table} SET file_delete_state = 2 WHERE id = %s", row["id"])

    # --- our daemons, as bin/start runs them

    def command(self, name: str, *words: str) -> list[str]:
        return [str(self.directory / "bin" / name), "--app", "pymw", "--app", "pymw-adaptive", "-d", "3", *words]

    def daemons_once(self) -> None:
        """One pass of each, as processes of their own."""
        for name in ("pymw_validator", "pymw_assimilator"):
            done = subprocess.run(self.command(name, "--one_pass"), capture_output=True, text=True, timeout=LIMIT)
            assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def running(self, *hosts: OfficialHost) -> Iterator[None]:
        """Everything runs: the official programs, our daemons, and these hosts."""
        logs = [(self.directory / f"{name}.log").open("ab") for name in ("pymw_validator", "pymw_assimilator")]
        processes = [
            subprocess.Popen(self.command(Path(log.name).stem, "--sleep_interval", "0.2"), stdout=log, stderr=log)
            for log in logs
        ]
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._live, args=(each, stop)) for each in (self._round, *(h.step for h in hosts))
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            try:
                for thread in threads:
                    thread.join()
                (self.directory / "stop_daemons").write_text("<stop/>\n")
                codes = [process.wait(LIMIT) for process in processes]
                (self.directory / "stop_daemons").unlink()
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
                for log in logs:
                    log.close()
            assert codes == [0, 0], [Path(log.name).read_text() for log in logs]

    def _round(self, server: OfficialServer) -> int:
        done = server.transition()
        server.delete_files()
        return done

    def _live(self, step: Callable[[OfficialServer], int], stop: threading.Event) -> None:
        with self.of_thread() as server:
            while not stop.is_set():
                if not step(server):
                    stop.wait(0.1)

    @contextlib.contextmanager
    def of_thread(self) -> Iterator[OfficialServer]:
        """The same with a connection of its own."""
        twin = object.__new__(OfficialServer)
        twin.__dict__.update(self.__dict__)
        twin.root = self._connect(self.database)
        try:
            yield twin
        finally:
            twin.root.close()


class OfficialHost:
    """A volunteer's computer, which runs what it is sent; `tamper` changes what it sends back."""

    def __init__(self, server: OfficialServer, host: int, user: int, tamper: Tamper | None) -> None:
        self.server, self.host, self.user, self.tamper = server, host, user, tamper
        self.folder = Path(tempfile.mkdtemp(prefix="official-host-"))
        self.files = self.folder / "projects" / "pi"
        self.files.mkdir(parents=True)
        self.fetched: list[str] = []

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def step(self, server: OfficialServer) -> int:
        """Take a copy, run it, report it; returns how many it did."""
        sent = server.send(self.host, self.user)
        if sent is None:
            return 0
        number, assignment = sent
        for reference in (*assignment.program, *assignment.inputs):
            self._fetch(server, reference.file)
        done = run_in_slot(
            assignment, self.folder / "slots" / "0", self.files, authenticator="",
            cancelled=lambda: server.is_aborted(number),
        )  # fmt: skip
        outputs = dict(done.outputs) if self.tamper is None else self.tamper(dict(done.outputs))
        state = 5 if done.exit_status == 0 else 3
        if server.is_aborted(number):
            server.report(number, Finished(assignment.name, 6, 202))
            return 1
        files = []
        for reference in assignment.outputs:
            if reference.file.name in outputs:
                data = outputs[reference.file.name]
                server.receive(reference.file.name, data)
                files.append((reference.file.name, len(data), hashlib.md5(data).hexdigest()))
        finished = Finished(
            assignment.name, state, done.exit_status, done.stderr, done.elapsed, done.elapsed, tuple(files)
        )
        server.report(number, finished)
        return 1

    def _fetch(self, server: OfficialServer, file: Any) -> None:
        path = self.files / file.name
        if path.exists():
            return
        data = server.fetch(file.urls[0])
        assert (len(data), hashlib.md5(data).hexdigest()) == (file.nbytes, file.md5)
        path.write_bytes(data)
        path.chmod(0o755 if file.executable else 0o644)
        self.fetched.append(file.name)
