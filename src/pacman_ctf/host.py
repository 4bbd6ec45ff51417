"""The process of one team: loads its agents and asks them, as the referee says over a pipe.

It knows nothing but its messages, which hold what its agents may see: no seed of the match, no hidden position, no
file of the opponents. What it answers harms or helps nobody but its own team.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pacman_ctf.wire import ANSWERS, Hearing

MAX_TEXT = 20_000  # characters of a traceback or of what was returned


class Failed(Exception):
    """The team did something that ends its match."""

    def __init__(self, code: str, what: str, detail: str = "") -> None:
        super().__init__(what)
        self.report = {"failed": code, "what": what[:500], "detail": detail[-MAX_TEXT:]}


class Host:
    """A team's agents, made and asked by messages."""

    def __init__(self) -> None:
        self.agents: dict[int, Any] = {}
        self.asked: dict[int, tuple[Callable[[Any], Any] | None, Callable[[Any], Any]]] = {}

    def load(self, order: dict[str, Any]) -> str:
        """Import the team's module and let its factory make the agents."""
        import random

        from pacman_ctf.compat import modules
        from pacman_ctf.layout import Layout

        modules.install()
        self.layout = Layout(order["layout"], order["name"])
        self.length = order["length"]
        self.hearing = Hearing(self.layout)
        random.seed(order["seed"])
        if order["numpy"]:
            try:
                import numpy

                numpy.random.seed(order["seed"] % 2**32)
            except ImportError:
                pass  # the agents' own import will tell
        factory = load_factory(order["main"])
        indices, red = order["agents"], order["red"]
        made = guarded("load", factory, *indices[:2], red) if len(indices) > 1 else guarded(
            "load", factory, indices[0], indices[0], red)  # fmt: skip
        try:
            agents = list(made)
        except TypeError:
            raise Failed("load", f"the factory returned {text_of(made)}, not a list of agents") from None
        if len(agents) < len(indices):
            raise Failed("load", f"the factory made {len(agents)} agents, and {len(indices)} are needed")
        for index, agent in zip(indices, agents, strict=False):
            self._adopt(index, agent, indices)
        return "ready"

    def _adopt(self, index: int, agent: Any, indices: list[int]) -> None:
        from pacman_ctf.compat.capture_agents import CaptureAgent

        act = method(agent, "get_action") or method(agent, "choose_action")
        if act is None:
            raise Failed("load", f"agent {index} is {text_of(agent)}: it has no get_action and no choose_action")
        observe = method(agent, "observation_function")
        if getattr(type(agent), "observation_function", None) is CaptureAgent.observation_function:
            observe = None  # it would only copy what is given
        self.agents[index] = agent
        self.asked[index] = (observe, act)
        register = method(agent, "register_team")
        if register is not None:
            guarded("load", register, list(indices))

    def register(self, index: int) -> str:
        """The agent prepares; this state shows all, as nobody has moved."""
        from pacman_ctf.compat.capture import GameState
        from pacman_ctf.engine import begin

        prepare = method(self.agents[index], "register_initial_state")
        if prepare is not None:
            guarded("crash", prepare, GameState.of(begin(self.layout, self.length)))
        return "ready"

    def final(self, index: int, state: Any) -> str:
        """The game is over."""
        from pacman_ctf.compat.capture import GameState

        end = method(self.agents[index], "final")
        if end is not None:
            guarded("crash", end, GameState.of(state))
        return "ready"


def serve(read: int, write: int, hello: dict[str, Any]) -> None:
    """Answer messages until there are no more, or until the team has failed."""
    from pacman_ctf.compat.capture import GameState

    host = Host()
    source = os.fdopen(read, "rb", 1 << 16)
    readline, loads, answers, send = source.readline, json.loads, ANSWERS, os.write
    tell(write, hello)
    try:
        while line := readline():
            order, *rest = loads(line)
            if order == "move":
                agent, distances, *view = rest
                seen = GameState.of(host.hearing.state(agent, *view), distances)
                observe, act = host.asked[agent]
                try:
                    action = act(seen if observe is None else observe(seen))
                except BaseException as error:  # noqa: BLE001 - whatever an agent raises is its outcome
                    raise crashed("crash", error) from None
                if type(action) is str and action in answers:
                    send(write, answers[action])
                    continue
                if not (isinstance(action, str) and str.__str__(action) in answers):
                    raise Failed("illegal", f"agent {agent} returned {text_of(action)}, which is no action")
                tell(write, str.__str__(action))
            elif order == "load":
                tell(write, host.load(*rest))
            elif order == "register":
                tell(write, host.register(*rest))
            elif order == "final":
                tell(write, host.final(rest[0], host.hearing.state(*rest)))
    except Failed as failure:
        tell(write, failure.report)


def tell(write: int, message: object) -> None:
    """One line of JSON; a pipe may take it in parts."""
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(write, data) :]


def load_factory(main: str) -> Callable[..., Any]:
    """The function that makes a team's agents."""
    import importlib.util

    from pacman_ctf.submission import FACTORIES

    path = Path(main).absolute()
    sys.path.insert(0, str(path.parent))
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    guarded("load", spec.loader.exec_module, module)
    for factory in FACTORIES:
        if callable(found := getattr(module, factory, None)):
            return found  # type: ignore[no-any-return]
    raise Failed("load", f"{main} defines neither create_team nor createTeam")


def method(agent: Any, name: str) -> Callable[..., Any] | None:
    """An agent's method in either spelling."""
    from pacman_ctf.compat.spelling import camel

    for spelled in (name, camel(name)):
        try:
            found = getattr(agent, spelled, None)
        except BaseException as error:  # noqa: BLE001 - a property of the agent's own
            raise crashed("load", error) from None
        if callable(found):
            return found  # type: ignore[no-any-return]
    return None


def guarded(code: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the team's code; whatever it raises becomes its outcome."""
    try:
        return function(*arguments)
    except Failed:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt as well
        raise crashed(code, error) from None


def crashed(code: str, error: BaseException) -> Failed:
    """An exception as data: its name, what it says, where it came from; an exception may be hostile too."""
    kind = type(error).__name__
    try:
        what = f"{kind}: {str(error)[:300]}" if str(error) else kind
    except BaseException:  # noqa: BLE001
        what = kind
    try:
        told = traceback.TracebackException.from_exception(error, limit=-40)
        _leave_out_ours(told)
        detail = "".join(told.format())
    except BaseException:  # noqa: BLE001
        detail = what
    return Failed(code, what, detail)


def _leave_out_ours(told: traceback.TracebackException) -> None:
    """A traceback is about the team's own lines, where there are any."""
    ours = (str(Path(__file__).parent), "<frozen importlib")
    theirs = [frame for frame in told.stack if not frame.filename.startswith(ours)]
    if theirs:
        told.stack[:] = theirs
    for cause in (told.__cause__, told.__context__):
        if cause is not None:
            _leave_out_ours(cause)


def text_of(value: Any) -> str:
    """What a value looks like, whatever its `__repr__` does."""
    try:
        return repr(value)[:200]
    except BaseException:  # noqa: BLE001
        return f"an object of {type(value).__name__}"


def flush() -> None:
    """What the agents printed must not be lost with the process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: BLE001, S110 - the agents may have put anything there
            pass
