"""Teams for the tests, made of source text."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from pacman_ctf.compat.spelling import camel
from pacman_ctf.submission import Submission

AGENTS = Path(__file__).parent / "agents"

HEAD = """
from captureAgents import CaptureAgent
import random

def createTeam(firstIndex, secondIndex, isRed, first='Agent', second='Agent'):
    return [Agent(firstIndex), Agent(secondIndex)]
"""


def agent(body: str, head: str = HEAD, name: str = "team", **files: str) -> Submission:
    """A team whose two agents are of this class body; the rest they have from a random one."""
    cls = "class Agent(CaptureAgent):\n" + textwrap.indent(textwrap.dedent(body).strip() or "pass", "    ")
    default = (
        "\n\nif 'chooseAction' not in vars(Agent):\n"
        "    Agent.chooseAction = Agent.choose_action = lambda self, s: random.choice(s.getLegalActions(self.index))\n"
    )
    return source(head + "\n\n" + cls + default, name=name, **files)


def source(text: str, name: str = "team", **files: str) -> Submission:
    """A team of one module, and other files with dots in their names written as two underscores."""
    rest = {path.replace("__", "."): content.encode() for path, content in files.items()}
    return Submission.of(name, {"myTeam.py": text.encode()} | rest)


def innocent(name: str = "innocent") -> Submission:
    """A team that moves at random and does nothing wrong."""
    return agent("", name=name)


def inspector(dialect: str) -> Submission:
    """The inspecting team in a dialect."""
    text = (AGENTS / "inspector.py").read_text()
    where, spelling = dialect.split("-", 1)
    if spelling.startswith("camel"):
        text = re.sub(r"\b_?[a-z]+(_[a-z0-9]+)+\b", lambda found: camel(found[0]), text)
    elif spelling == "mixed":  # modules in one spelling, members in the other, and some of each
        text = re.sub(r"contest\.([a-z_]+)", lambda found: "contest." + camel(found[1]), text)
        text = text.replace("choose_action", "chooseAction").replace("is_empty", "isEmpty")
        text = text.replace("def get_weights", "def getWeights").replace("create_team", "createTeam")
    if where == "flat":
        text = text.replace("from contest import", "import").replace("contest.", "")
    if spelling.endswith("py2"):
        text = respell_for_python2(text)
    return Submission.of(dialect, {"myTeam.py": text.encode()})


def respell_for_python2(text: str) -> str:
    """The same team as somebody would have written it in Python 2."""
    text = text.replace('print("inspected", self.moves, "moves")', 'print "inspected", self.moves / 2 * 2, "moves"')
    return text.replace("except Exception:", "except Exception, error:")
