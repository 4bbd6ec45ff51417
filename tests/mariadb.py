"""A real `mariadbd`, started by the tests on a socket of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import sqlalchemy

from boincserver.testing import wait_until


class MariaDB:
    """A `mariadbd` with durable commits, that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket, self.number = folder, folder / "s", 0
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal", "--user=root"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "mariadbd", "--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.socket}", "--skip-networking",
                    "--user=root", "--innodb-flush-log-at-trx-commit=1", f"--pid-file={self.folder}/pid",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        # The driver leaves its socket open when nobody answers, so it is not asked before somebody can.
        wait_until(self.socket.exists, timeout=60, what="mariadbd to listen")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def create(self) -> str:
        """A new, empty database; returns its URL."""
        self.number += 1
        root = f"mysql+pymysql://root@localhost/%s?unix_socket={self.socket}&charset=utf8mb4"
        engine = sqlalchemy.create_engine(root % "")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE project{self.number} CHARACTER SET utf8mb4")
        engine.dispose()
        return root % f"project{self.number}"
