"""The frame of every page, and how it is sent: no script, nothing from elsewhere, never kept by anybody."""

from __future__ import annotations

from html import escape
from typing import Final

from starlette.responses import Response

__all__ = ["page"]

_HEADERS: Final = {
    "cache-control": "no-store",
    # A link that somebody follows from here must not tell where he came from: the address may hold a secret.
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_STYLE: Final = (
    "body{max-width:44rem;margin:2rem auto;padding:0 1rem;font:1.1rem/1.5 sans-serif}"
    "progress{width:100%}table{border-collapse:collapse}td,th{text-align:left;padding:.25rem 1rem .25rem 0}"
    "td:first-child{overflow-wrap:anywhere}"
    "input,button{display:block;width:100%;max-width:24rem;box-sizing:border-box;font:inherit;padding:.5rem;"
    "margin:.25rem 0 1rem}"
)


def page(title: str, body: str, project: str, status: int = 200) -> Response:
    """A page; title and the project's name are text, the body is HTML."""
    document = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<meta name="robots" content="noindex">\n'
        f"<title>{escape(title)} - {escape(project)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
    return Response(document, status, dict(_HEADERS), media_type="text/html; charset=utf-8")
