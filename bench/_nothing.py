"""The empty task: a module of its own, since all of a task's module travels."""


def nothing() -> None:
    """Return at once."""
