"""What client and application say to each other through the channels, as text."""

from __future__ import annotations

CONTROLS = ("suspend", "resume", "quit", "abort", "reread_app_info")
HAVE_TRICKLE_UP = "<have_new_trickle_up/>\n"
HAVE_UPLOAD_REQUEST = "<have_new_upload_file/>\n"


def words(text: str, known: tuple[str, ...]) -> list[str]:
    """The known empty elements of a message, in its own order."""
    found = [(text.find(f"<{word}/>"), word) for word in known]
    return [word for position, word in sorted(found) if position >= 0]


def element(text: str, name: str) -> str | None:
    """The content of the first element of that name."""
    _, opened, rest = text.partition(f"<{name}>")
    content, closed, _ = rest.partition(f"</{name}>")
    return content if opened and closed else None


def status(*, cpu_time: float, checkpoint_cpu_time: float, fraction: float, want_network: bool) -> str:
    """How the task is doing.

    Both times are always there, since the client takes a missing one for zero; a fraction of zero is left out,
    since the client would ignore it.
    """
    lines = [
        f"<current_cpu_time>{cpu_time:e}</current_cpu_time>",
        f"<checkpoint_cpu_time>{checkpoint_cpu_time:.10e}</checkpoint_cpu_time>",
        f"<want_network>{want_network:d}</want_network>",
    ]
    if fraction > 0:
        lines.append(f"<fraction_done>{fraction:e}</fraction_done>")
    return "\n".join(lines) + "\n"
