"""The key of the account that submits: from the environment, or from a file that nobody else can read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from boincserver.errors import ConfigError

__all__ = ["account_key"]

_KEY: Final = re.compile(r"[0-9a-fA-F]{8,64}")
VARIABLE: Final = "BOINC_ACCOUNT_KEY"
FILE_VARIABLE: Final = "BOINC_ACCOUNT_KEYS"
FILE: Final = Path("~/.config/boinc/account_keys")


def account_key(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The key for the project at this URL; ConfigError says how to give one.

    `BOINC_ACCOUNT_KEY` holds the key itself. Else the file that `BOINC_ACCOUNT_KEYS` names, by default
    `~/.config/boinc/account_keys`, has a line `URL KEY` for each project; only its owner may read it.
    """
    key = environment.get(VARIABLE, "").strip()
    if key:
        return _checked(key, f"the environment variable {VARIABLE}")
    path = Path(environment.get(FILE_VARIABLE, "") or FILE).expanduser()
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no account key for {url}: set {VARIABLE}, or write a line `{url} KEY` into {path} and "
            f"chmod 600 it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the account keys in {path} cannot be read: {error}") from error
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise ConfigError(f"others can read the account keys in {path}; chmod 600 it")
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0].rstrip("/") == url.rstrip("/"):
            return _checked(words[1], str(path))
    raise ConfigError(f"{path} has no line for {url}; add `{url} KEY`")


def _checked(key: str, where: str) -> str:
    if not _KEY.fullmatch(key):
        raise ConfigError(
            f"{where} holds no account key: it has hexadecimal digits alone, as shown on your account's page"
        )
    return key
