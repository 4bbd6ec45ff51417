"""What the client tells a task when it starts it: `init_data.xml`, read leniently, without the secrets.

The volunteer's preferences stand in the file verbatim and need not be well-formed, so this reads elements
one by one instead of the file as XML.
"""

from __future__ import annotations

from pyboinc.messages import element

INIT_DATA_FILE = "init_data.xml"
DEFAULT_CHECKPOINT_PERIOD = 300.0

# Elements that hold elements of their own, whose names may be those of ours. The first is anybody's text.
_CONTAINERS = ("project_preferences", "host_info", "proxy_info", "global_preferences")
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&"))


class InitData:
    """What a task may know about itself, by BOINC's own names; the account's authenticator is never here."""

    app_name: str = ""
    app_version: int = 0
    plan_class: str = ""
    userid: int = 0
    teamid: int = 0
    hostid: int = 0
    user_name: str = ""
    team_name: str = ""
    user_total_credit: float = 0.0
    user_expavg_credit: float = 0.0
    host_total_credit: float = 0.0
    host_expavg_credit: float = 0.0
    project_preferences: str = ""
    wu_name: str = ""
    result_name: str = ""
    slot: int = 0
    wu_cpu_time: float = 0.0
    starting_elapsed_time: float = 0.0
    checkpoint_period: float = DEFAULT_CHECKPOINT_PERIOD
    resource_share_fraction: float = 1.0
    fraction_done_start: float = 0.0
    fraction_done_end: float = 1.0
    ncpus: float = 1.0
    gpu_type: str = ""
    gpu_device_num: int = -1
    gpu_usage: float = 0.0
    rsc_fpops_est: float = 0.0
    rsc_fpops_bound: float = 0.0
    rsc_memory_bound: float = 0.0
    rsc_disk_bound: float = 0.0
    computation_deadline: float = 0.0

    def __init__(self, **fields: object) -> None:
        unknown = fields.keys() - FIELDS.keys()
        if unknown:
            raise TypeError(f"no such field of init data: {', '.join(sorted(unknown))}")
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"init data is not to be changed: {name}")

    def __repr__(self) -> str:
        return f"InitData({', '.join(f'{name}={value!r}' for name, value in sorted(self.__dict__.items()))})"

    def to_text(self) -> str:
        """These fields and nothing else, so that `parse` reads them again."""
        return "".join(f"<{name}>{_escaped(str(value))}</{name}>\n" for name, value in sorted(self.__dict__.items()))


FIELDS: dict[str, type] = {
    name: type(value)
    for name, value in vars(InitData).items()
    if isinstance(value, (int, float, str)) and name[0] != "_"
}


class ClientData:
    """What only the supervisor needs of the file: where the shared memory is and who the client is."""

    def __init__(self, text: str) -> None:
        plain = _without_containers(text)
        self.comm_obj_name = element(plain, "comm_obj_name") or ""
        self.client_pid = int(_number(int, element(plain, "client_pid")) or 0)


def parse(text: str) -> InitData:
    """The record; a field that is missing or no number keeps its default."""
    plain = _without_containers(text)
    fields: dict[str, object] = {}
    for name, kind in FIELDS.items():
        content = element(plain, name)
        if content is None:
            continue
        value = _unescaped(content.strip()) if kind is str else _number(kind, content)
        if value is not None:
            fields[name] = value
    preferences = _container(text, "project_preferences")
    if preferences is not None:
        fields["project_preferences"] = _unescaped(preferences) if "<" not in preferences else preferences
    # The client writes 0 where the volunteer never set how often to write to disk.
    if fields.get("checkpoint_period") == 0:
        fields["checkpoint_period"] = DEFAULT_CHECKPOINT_PERIOD
    return InitData(**fields)


def read(path: str = INIT_DATA_FILE) -> str:
    """The file's text, whatever its encoding."""
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def _bounds(text: str, name: str) -> tuple[int, int] | None:
    start, end = text.find(f"<{name}>"), text.rfind(f"</{name}>")
    return (start, end) if 0 <= start < end else None


def _container(text: str, name: str) -> str | None:
    bounds = _bounds(text, name)
    return text[bounds[0] + len(name) + 2 : bounds[1]].strip() if bounds else None


def _without_containers(text: str) -> str:
    for name in _CONTAINERS:
        bounds = _bounds(text, name)
        if bounds:
            text = text[: bounds[0]] + text[bounds[1] + len(name) + 3 :]
    return text


def _number(kind: type, text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    if not abs(number) < float("inf"):
        return None
    return int(number) if kind is int else number


def _unescaped(text: str) -> str:
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return text


def _escaped(text: str) -> str:
    for entity, character in reversed(_ENTITIES):
        text = text.replace(character, entity)
    return text
