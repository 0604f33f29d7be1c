"""The page at /: one document with its style and scripts, and what it may load."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from fieldmark.serving.security import content_policy

_PART = re.compile(r"{{ (\S+) }}")
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def page(token: str) -> tuple[str, str]:
    """The document, which knows the token, and its content security policy: it may load nothing but its own scripts and styles."""
    folder = files("fieldmark.serving") / "web"
    document = _PART.sub(
        lambda part: token if part[1] == "token" else (folder / part[1]).read_text(encoding="utf-8"),
        (folder / "page.html").read_text(encoding="utf-8"),
    )
    hashes = [f"'sha256-{b64encode(sha256(each[2].encode()).digest()).decode()}'" for each in _INLINE.finditer(document)]
    return document, content_policy(hashes)
