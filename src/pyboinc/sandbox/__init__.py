"""Keeps the rest of a process in bounds: files, network, other processes, memory. Linux, no privileges needed.

>>> level = apply(Policy(write=["work"], memory=2 << 30))
>>> str(level)
'limits, files, network, syscalls, signals'

Each layer is applied where the kernel has it, and the level says which were; `require` refuses to go on with less.
There is no way back, and whatever the process starts is bound as well.
"""

from __future__ import annotations

import os
import sys

from pyboinc.sandbox.policy import FILES, LAYERS, LIMITS, NETWORK, SIGNALS, SYSCALLS, Level, Policy

__all__ = [
    "FILES",
    "LAYERS",
    "LIMITS",
    "NETWORK",
    "SIGNALS",
    "SYSCALLS",
    "Level",
    "Policy",
    "SandboxUnavailableError",
    "apply",
    "available",
    "system_paths",
]


class SandboxUnavailableError(Exception):
    """This system cannot give what the policy requires."""


def available(policy: Policy | None = None) -> Level:
    """What this system can give, nothing applied."""
    if sys.platform == "win32":
        return Level(())
    layers = [LIMITS]
    if sys.platform == "linux":
        from pyboinc.sandbox import landlock, seccomp

        abi = landlock.abi()
        filters = seccomp.available()
        if abi:
            layers.append(FILES)
        if filters and not (policy and policy.network):
            layers.append(NETWORK)
        if filters:
            layers.append(SYSCALLS)
        if abi >= landlock.ABI_OF_SCOPES or (filters and policy and policy.accountable):
            layers.append(SIGNALS)
    return Level(layers)


def apply(policy: Policy) -> Level:
    """Bind this process for good, and say by which layers; SandboxUnavailableError if one that is required is missing.

    Call it while there is one thread: threads that already run stay free.
    """
    level = available(policy)
    missing = [layer for layer in LAYERS if layer in policy.require and layer not in level]
    if missing:
        raise SandboxUnavailableError(f"this system has no sandbox for: {', '.join(missing)} (it has: {level})")
    if sys.platform == "win32":
        return level
    from pyboinc.sandbox import rlimits

    rlimits.apply(policy)
    if sys.platform == "linux":
        from pyboinc.sandbox import capabilities, landlock, seccomp

        if FILES in level:
            landlock.apply(_readable(policy), _writable(policy), network=policy.network)
        capabilities.drop()
        if SYSCALLS in level:
            seccomp.apply(
                network=policy.network,
                unix_sockets=policy.unix_sockets,
                shared_memory=policy.shared_memory,
                accountable=policy.accountable,
                signals=not policy.accountable or landlock.abi() >= landlock.ABI_OF_SCOPES,
            )
    return level


def _readable(policy: Policy) -> list[str]:
    paths = [os.fspath(path) for path in policy.read]
    if policy.interpreter:
        paths += [*system_paths(), *sys.path]
    return [path for path in paths if path]


def _writable(policy: Policy) -> list[str]:
    paths = [os.fspath(path) for path in policy.write]
    if policy.interpreter:
        paths.append(os.devnull)
    if policy.shared_memory:
        paths.append("/dev/shm")  # noqa: S108 (where the system keeps shared memory)
    return paths


def system_paths() -> list[str]:
    """What any Python program reads of its host: this interpreter and its library, the system's libraries."""
    paths = [*_SYSTEM, sys.base_prefix, sys.prefix, os.path.realpath(sys.executable)]
    # Started without its site module, an interpreter does not know that it stands in a virtual environment.
    environment = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    return [*paths, environment] if os.path.isfile(os.path.join(environment, "pyvenv.cfg")) else paths


# What any program needs: its libraries, the time zone, harmless devices, facts about its own machine.
_SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/dev/zero",
    "/dev/urandom",
    "/dev/random",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
)
