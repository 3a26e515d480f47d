"""Texts that a careless page would execute, that break its layout, or that deceive its reader."""

from __future__ import annotations

from typing import Final

# Each sets a variable of the page if it executes; the tests check that none does.
_RUN: Final = "window.executed=(window.executed||0)+1"
MARKUP: Final = (
    f"<script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"<img src=x onerror={_RUN}>",
    f'"><img src=x onerror="{_RUN}">',
    f"'><img src=x onerror='{_RUN}'>",
    f'" autofocus onfocus="{_RUN}" x="',
    f"' onmouseover='{_RUN}' style='position:fixed;inset:0' x='",
    f"` onpointerover=`{_RUN}` x=`",
    f"<svg onload={_RUN}>",
    f"<svg><script>{_RUN}</script></svg>",
    f'<svg><animate onbegin="{_RUN}" attributeName=x dur=1s>',
    f"</textarea><script>{_RUN}</script>",
    f"</title><script>{_RUN}</script>",
    f"</style><script>{_RUN}</script>",
    f"--><script>{_RUN}</script>",
    f"]]><script>{_RUN}</script>",
    f"</pre></code><details open ontoggle={_RUN}>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'></iframe>",
    f"<a href=\"javascript:{_RUN}\">click</a><form action='javascript:{_RUN}'><button>go</button>",
    '<meta http-equiv="refresh" content="0;url=http://127.0.0.2:9/">',
    '<base href="http://127.0.0.2:9/"><link rel=stylesheet href="//127.0.0.2:9/x.css">',
    "<style>*{display:none!important}</style>",
    "{{ 7 * 7 }}{% for each in cycler.__init__.__globals__ %}{{ each }}{% endfor %}${7*7}#{7*7}",
    "&lt;script&gt;&#x3c;script&#x3e;&amp;",
)
ADDRESSES: Final = (
    f"javascript:{_RUN}",
    f"data:text/html,<script>{_RUN}</script>",
    "//127.0.0.2:9/",
    "http://127.0.0.2:9/?",
    "../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd%00",
    "a/b?c=d&e=f#g;h=i%20j+k",
    ".",
    "/",
)
CHARACTERS: Final = (
    "admin\u202egnp.exe\u2066\u2067",
    "ze\u200bro\u200d\ufeff\u00adwidth",
    "line\u2028separator\u2029and\u0085next",
    "bell\x07escape\x1b[31mred\x1b]0;title\x07",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031ealgo",
    "مرحبا بالعالم",
    "日本語のユーザー名",
    "🏴\u200d☠️👩\u200d👩\u200d👧\u200d👦",
    "lone \ud800 surrogate \udfff",
    "x\r\nSet-Cookie: executed=1\r\n\r\n<script>",
)
LENGTHS: Final = ("W" * 10_000, "a b " * 5_000, "<" * 3_000, "")
TEXTS: Final = (*MARKUP, *ADDRESSES, *CHARACTERS, *LENGTHS)
# No character of these may be written to a page as it is.
INVISIBLE: Final = "\u202e\u2066\u2067\x07\x1b\u0085"
