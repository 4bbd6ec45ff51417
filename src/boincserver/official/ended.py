"""How a job of an official project ended: its record in a file, since rows and outputs go when it was assimilated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from boincserver.framing import Blobs, blob, pack, unpack
from boincserver.records import Attempt, Copy, JobOutcome
from boincserver.states import ErrorMask, Outcome, ServerState, ValidateState

__all__ = ["Ended", "Instance"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One copy, with what its program did; `id` is the project's, 0 where it is not known any more."""

    copy: Copy
    elapsed: float = 0.0
    cpu: float = 0.0
    sent_time: int = 0
    received_time: int = 0
    id: int = 0

    @property
    def attempt(self) -> Attempt:
        """The same for whoever waits for the job."""
        copy = self.copy
        return Attempt(
            copy.result_name, copy.host_id, copy.user_id, copy.outcome, copy.validate_state, copy.exit_status,
            copy.stderr, self.elapsed, self.cpu, self.sent_time, self.received_time,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ended:
    """A job with its copies, `canonical` being the name of the one that was taken."""

    name: str
    error_mask: ErrorMask
    canonical: str
    instances: tuple[Instance, ...]

    def outcome(self, seq: int) -> JobOutcome:
        """For its submitter. What was never sent is no attempt."""
        outputs = {one.copy.result_name: one.copy.outputs for one in self.instances}.get(self.canonical, {})
        attempts = [one.attempt for one in self.instances if one.copy.host_id]
        return JobOutcome(seq, self.name, self.error_mask, outputs, tuple(attempts))

    def packed(self) -> bytes:
        """As bytes."""
        blobs = Blobs()
        listed = [_listed(one, blobs) for one in self.instances]
        head = {"name": self.name, "error_mask": int(self.error_mask), "canonical": self.canonical, "copies": listed}
        return pack(head, blobs)

    @classmethod
    def unpacked(cls, data: bytes) -> Ended:
        """From bytes; ValueError for what was not written by `packed`."""
        head, blobs = unpack(data)
        try:
            instances = tuple([_instance(listed, blobs) for listed in head["copies"]])
            return cls(head["name"], ErrorMask(head["error_mask"]), head["canonical"], instances)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no record of a job's end: {error!r}") from error


def _listed(one: Instance, blobs: Blobs) -> list[Any]:
    copy = one.copy
    return [
        copy.result_name, int(copy.server_state), int(copy.outcome), int(copy.validate_state), copy.host_id,
        copy.user_id, copy.exit_status, copy.deadline, copy.stderr,
        {name: blobs.add(data) for name, data in copy.outputs.items()},
        one.elapsed, one.cpu, one.sent_time, one.received_time,
    ]  # fmt: skip


def _instance(listed: Sequence[Any], blobs: memoryview) -> Instance:
    name, state, outcome, validated, host, user, exit_status, deadline, stderr, outputs, *rest = listed
    copy = Copy(
        name, ServerState(state), Outcome(outcome), ValidateState(validated), host, user, exit_status, deadline,
        stderr, {open_name: blob(blobs, reference) for open_name, reference in outputs.items()},
    )  # fmt: skip
    return Instance(copy, *rest)
