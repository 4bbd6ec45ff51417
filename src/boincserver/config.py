"""project.toml: everything that an operator can set, in one file, each setting with its default."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from boincserver.errors import ConfigError

__all__ = ["AccountsConfig", "Config", "CreditConfig", "JobsConfig", "MailConfig", "SubmissionConfig", "load", "render"]


def _setting(default: Any, meaning: str, *, least: float = 0, most: float = math.inf) -> Any:
    """`least` and `most` bound a number."""
    return field(default=default, metadata={"meaning": meaning, "least": least, "most": most})


@dataclass(frozen=True, slots=True)
class AccountsConfig:
    """[accounts]"""

    creation: str = _setting(
        "closed", "who may create accounts: open (anybody), invited (who has a code), closed (nobody but the operator)"
    )
    min_passwd_length: int = _setting(6, "fewest characters of a password")
    terms_of_use: str = _setting("", "what clients show to be agreed to before an account is made")


@dataclass(frozen=True, slots=True)
class JobsConfig:
    """[jobs]"""

    max_per_request: int = _setting(10, "most jobs sent to a host in one reply, for each of its CPUs", least=1)
    max_in_progress: int = _setting(100, "most jobs that a host may hold at a time, for each of its CPUs", least=1)
    daily_quota: int = _setting(
        10_000, "most jobs of an application version a day, for each CPU; less after failures", least=1
    )
    one_result_per_user: bool = _setting(True, "copies of a job go to different users; if false, to different hosts")
    retry_elsewhere: int = _setting(20, "seconds for which a copy that failed is kept for other hosts")
    keep_for_reliable: int = _setting(
        0, "seconds for which copies that had to be made anew are kept for reliable hosts"
    )
    reliable_turnaround: int = _setting(
        86400, "seconds from sending to report, on the average, that a reliable host needs"
    )
    spot_checks: float = _setting(
        0.1, "share of a trusted host's jobs that are checked all the same, where jobs go unchecked at all", most=1
    )
    report_grace_period: int = _setting(0, "seconds after a deadline before a copy is given up")
    gone_after_days: int = _setting(
        7, "days without a contact after which nobody waits for a computer of this kind; 0: wait for ever"
    )
    resend_lost_results: bool = _setting(True, "send again what a client was sent and does not know of")
    purge_after_days: int = _setting(30, "days after which a job that is over leaves the tables; 0: never")
    feeder_size: int = _setting(10_000, "unsent copies held in memory", least=1)


@dataclass(frozen=True, slots=True)
class CreditConfig:
    """[credit]"""

    kind: str = _setting("estimate", "estimate (by a job's estimated work), runtime, fixed or none")
    per_job: float = _setting(1.0, "what a job earns where kind is fixed")


@dataclass(frozen=True, slots=True)
class SubmissionConfig:
    """[submission]"""

    max_jobs: int = _setting(20_000, "most jobs that one call of a remote submitter may bring", least=1)
    max_request_bytes: int = _setting(64 << 20, "longest request of a remote submitter, its files not counted", least=1)
    max_file_bytes: int = _setting(10 << 30, "largest file that a remote submitter may upload", least=1)


@dataclass(frozen=True, slots=True)
class MailConfig:
    """[mail]"""

    host: str = _setting("", "the mail server that takes the project's mail; empty: the project sends none")
    port: int = _setting(587, "its port", least=1, most=65535)
    security: str = _setting("starttls", "starttls, tls (from the first byte on) or none")
    user: str = _setting("", "the account there; its password is read from keys/mail_password")
    sender: str = _setting("", "the address that mail comes from")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    name: str = _setting("BOINC project", "what volunteers see")
    url: str = _setting("", "the project's URL; for ever, since clients know the project by it")
    listen: str = _setting("", "address:port to listen on")
    database: str = _setting("", "SQLAlchemy URL; empty: database.sqlite3 in this folder")
    processes: int = _setting(1, "how many processes serve the project; more than one needs MariaDB or MySQL", least=1)
    log_format: str = _setting("text", "text (for people) or json (an object a line)")
    log_megabytes: int = _setting(
        20, "size at which a new log/server.log is begun; 0: whenever something moves it away"
    )
    log_files: int = _setting(5, "how many older ones are kept")
    proxies: int = _setting(0, "how many trusted proxies stand in front and add X-Forwarded-For")
    patience: int = _setting(
        60,
        "seconds for which a client may keep the server waiting for the next byte of a request",
        least=1,
    )
    statistics_hours: int = _setting(
        24, "hours between two exports for sites that gather statistics, under stats/; 0: none"
    )
    accounts: AccountsConfig = field(default_factory=AccountsConfig)
    jobs: JobsConfig = field(default_factory=JobsConfig)
    credit: CreditConfig = field(default_factory=CreditConfig)
    submission: SubmissionConfig = field(default_factory=SubmissionConfig)
    mail: MailConfig = field(default_factory=MailConfig)


_TABLES: dict[str, type[Any]] = {
    "accounts": AccountsConfig,
    "jobs": JobsConfig,
    "credit": CreditConfig,
    "submission": SubmissionConfig,
    "mail": MailConfig,
}


def load(path: Path) -> Config:
    """Read the file; ConfigError names the setting that is wrong."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    tables = {name: _record(kind, document.pop(name, {}), f"{path}: [{name}]") for name, kind in _TABLES.items()}
    config: Config = _record(Config, {**document, **tables}, str(path))
    if config.accounts.creation not in ("open", "invited", "closed"):
        raise ConfigError(
            f"{path}: [accounts] creation must be open, invited or closed, not {config.accounts.creation!r}"
        )
    if config.log_format not in ("text", "json"):
        raise ConfigError(f"{path}: log_format must be text or json, not {config.log_format!r}")
    if config.credit.kind not in ("estimate", "runtime", "fixed", "none"):
        raise ConfigError(f"{path}: [credit] kind must be estimate, runtime, fixed or none, not {config.credit.kind!r}")
    if config.mail.security not in ("starttls", "tls", "none"):
        raise ConfigError(f"{path}: [mail] security must be starttls, tls or none, not {config.mail.security!r}")
    if config.mail.host and "@" not in config.mail.sender:
        raise ConfigError(f"{path}: [mail] sender must be the address that mail comes from")
    return config


def _record(kind: type[Any], given: Any, where: str) -> Any:
    if not isinstance(given, dict):
        raise ConfigError(f"{where} is a table of settings, not {given!r}")
    known = {item.name: item for item in fields(kind)}
    for name in given:
        if name not in known:
            raise ConfigError(f"{where}: there is no setting {name!r}; there are: {', '.join(known)}")
    return kind(**{name: _checked(value, known[name], f"{where}: {name}") for name, value in given.items()})


def _checked(value: Any, setting: Any, name: str) -> Any:
    kind = type(setting.default)
    if setting.default is MISSING:
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f"{name} must be {kind.__name__}, not {value!r}")
    least, most = setting.metadata["least"], setting.metadata["most"]
    if kind in (int, float) and not (least <= value <= most and value < math.inf):
        bounds = f"from {least} to {most}" if most < math.inf else f"at least {least}"
        raise ConfigError(f"{name} must be {bounds}, not {value!r}")
    return value


def render(config: Config) -> str:
    """The file's text: every setting with its meaning."""
    lines = ["# A BOINC project. Restart `boincserver serve` after a change.", ""]
    for item in fields(Config):
        if item.name in _TABLES:
            lines += ["", f"[{item.name}]"]
            table = getattr(config, item.name)
            for setting in fields(table):
                lines += _lines(setting.name, getattr(table, setting.name), setting.metadata["meaning"])
        else:
            lines += _lines(item.name, getattr(config, item.name), item.metadata["meaning"])
    return "\n".join(lines) + "\n"


def _lines(name: str, value: object, meaning: str) -> list[str]:
    # A JSON string, number or boolean is a TOML one too.
    return [f"# {meaning}", f"{name} = {json.dumps(value, ensure_ascii=False)}"]
