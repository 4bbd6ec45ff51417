"""Trickles: messages between a running program and the project.

A handler is a class with one method, found by the variety of the message among the entry points of the group
`boincserver.trickle_handlers`. A message that nobody handles stays in the table `msg_from_host` with `handled` 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final, Protocol

from sqlalchemy import bindparam, select, update

from boincserver.database import Session
from boincserver.protocol.text import element, fields
from boincserver.schema import msg_from_host, msg_to_host
from boincserver.schema import result as result_table

__all__ = ["Handler", "Message", "find_handler", "pending", "send_down", "set_handled"]

_PENDING: Final = (
    select(msg_from_host.c.id, msg_from_host.c.hostid, msg_from_host.c.variety, msg_from_host.c.xml)
    .where(msg_from_host.c.handled == 0, msg_from_host.c.id > bindparam("after"))
    .order_by(msg_from_host.c.id)
    .limit(bindparam("most"))
)
_HANDLED: Final = update(msg_from_host).where(msg_from_host.c.id == bindparam("number")).values(handled=1)
_DOWN_DONE: Final = (
    update(msg_to_host)
    .where(msg_to_host.c.hostid == bindparam("number"), msg_to_host.c.variety == bindparam("result_name"))
    .values(handled=1)
)
_HOST_OF: Final = select(result_table.c.hostid).where(result_table.c.name == bindparam("result_name"))


@dataclass(frozen=True, slots=True)
class Message:
    """What a program sent up. `text` is its own, unchecked: whatever a stranger likes to write."""

    id: int
    hostid: int
    result_name: str
    variety: str
    text: str


class Handler(Protocol):
    """What is done with messages of one variety."""

    def handle(self, message: Message) -> str | None:
        """Take the message, at least once; a text that is returned is sent down to the same program."""
        ...


def find_handler(variety: str) -> Handler | None:
    """The handler for messages of this variety."""
    for entry in entry_points(group="boincserver.trickle_handlers", name=variety):
        handler: Handler = entry.load()()
        return handler
    return None


def pending(db: Session, after: int, most: int) -> list[Message]:
    """Messages that are not handled yet, oldest first."""
    found = []
    for number, hostid, variety, xml in db.all(_PENDING, after=after, most=most):
        head, _, rest = xml.partition("</time>\n")
        text = rest.removesuffix("</message>\n")
        found.append(Message(number, hostid, fields(head).get("result_name", ""), variety, text))
    return found


def set_handled(db: Session, number: int) -> None:
    """This message has been taken."""
    db.run(_HANDLED, number=number)


def send_down(db: Session, result_name: str, text: str, now: int) -> bool:
    """Have a text handed to the program that computes this result; false if no host computes it.

    The client drops what comes when the program does not run and says nothing, so the message goes out with each reply
    until the result is reported.
    """
    hostid = db.value(_HOST_OF, result_name=result_name)
    if not hostid:
        return False
    xml = (
        f"<trickle_down>\n{element('result_name', result_name)}{element('time', now)}{text.rstrip()}\n</trickle_down>\n"
    )
    db.insert(msg_to_host, create_time=now, hostid=hostid, variety=result_name, handled=0, xml=xml)
    return True


def stop_sending(db: Session, hostid: int, result_name: str) -> None:
    """The result is reported: nobody is there to read what was sent down."""
    db.run(_DOWN_DONE, number=hostid, result_name=result_name)
