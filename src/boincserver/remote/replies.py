"""Reading what a server answers, also where that is malformed.

The official server prints its own warnings as HTML into the XML, leaves `<aborted NAME>` open, and answers whole pages
of HTML, or the words `ERROR: ...`, with status 200.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from typing import Final

from boincserver.errors import ControlError, SubmissionRefused

__all__ = ["parse_reply"]

_CDATA: Final = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_TAG: Final = re.compile(r"<(/?)([A-Za-z_][\w.-]*)([^<>]*?)(/?)>")
_VOID: Final = frozenset({"br", "hr", "img", "meta", "link", "input"})
_SHOWN: Final = 300


def parse_reply(name: str, body: bytes, where: str) -> ET.Element:
    """The root of the reply to a call; SubmissionRefused if that says so, ControlError if it is no reply at all."""
    text = _decoded(body)
    root = _strict(text, name) or _lenient(text, name)
    if root is None:
        if text.lstrip().startswith("ERROR:"):
            raise SubmissionRefused(f"{where}: {text.strip()[6:].strip()[:_SHOWN]}")
        raise ControlError(f"{where} did not answer the call {name}, but said: {_plain(text)}")
    error = root if root.tag == "error" else root.find("error")
    if error is not None and error.find("error_num") is not None:
        raise SubmissionRefused(f"{where}: {(error.findtext('error_msg') or 'refused').strip()[:_SHOWN]}")
    return root


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _strict(text: str, name: str) -> ET.Element | None:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        # The encoding that stands in the declaration is not the one that was sent.
        root = ET.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))  # noqa: S314
    except ET.ParseError:
        return None
    return root if root.tag in (name, "error") else None


def _lenient(text: str, name: str) -> ET.Element | None:
    """The element of the call, from whatever tags there are: what is never closed holds nothing."""
    start = text.find(f"<{name}>")
    if start < 0:
        start = text.find("<error>")
        if start < 0:
            return None
        name = "error"
    text = _CDATA.sub(lambda match: html.escape(match[1], quote=False), text[start:])
    closed = {match[2] for match in _TAG.finditer(text) if match[1]}
    root = ET.Element(name)
    stack = [root]
    position = len(name) + 2
    for match in _TAG.finditer(text, position):
        _add_text(stack[-1], text[position : match.start()])
        position = match.end()
        closing, tag, _, empty = match.groups()
        if closing:
            if tag == name:
                return root
            if any(each.tag == tag for each in stack[1:]):
                while stack.pop().tag != tag:
                    pass
            continue
        element = ET.SubElement(stack[-1], tag)
        if not empty and tag in closed and tag not in _VOID:
            stack.append(element)
    return root


def _add_text(element: ET.Element, text: str) -> None:
    if not text:
        return
    plain = html.unescape(text)
    if len(element):
        element[-1].tail = (element[-1].tail or "") + plain
    else:
        element.text = (element.text or "") + plain


def _plain(text: str) -> str:
    """A page as a line of words."""
    words = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    return repr(words[:_SHOWN]) if words else "nothing"
