"""Markdown of users and models: what should look like something does, and nothing else happens."""

import html.parser

import pytest

from feedback.caller import Role
from serving.pages.markdown import SCHEMES, TAGS, to_html

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](java&#10;script:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:alert(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](/signout)",
    "<javascript:alert(1)>",
    "![x](https://evil.example/track.png)",
    "![x](javascript:alert(1))",
    '[x](https://a.example "\\" onmouseover=alert(1) x=\\"")',
    "[x]: javascript:alert(1)\n\n[x]",
    '```"><script>alert(1)</script>\nx\n```',
    "`<script>alert(1)</script>`",
    "<a href='javascript:alert(1)'>x</a>",
    "<style>*{display:none}</style>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<form action=//evil.example><input name=key>",
    "| a |\n|:-:|\n| <b onclick=alert(1)>x |",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "\0<script\0>alert(1)</script>",
    "<!-- --><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]


class Reader(html.parser.HTMLParser):
    """Every tag and attribute that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def seen(text: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = Reader()
    reader.feed(to_html(text))
    return reader.tags


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown_comes_to_nothing(text):
    for tag, attributes in seen(text):
        assert tag in TAGS
        assert set(attributes) <= {"href", "title", "target", "rel", "class", "start"}
        if "href" in attributes:
            assert (attributes["href"] or "").partition(":")[0] in SCHEMES


def test_what_people_write_stays_readable():
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in to_html("<script>alert(1)</script>")
    assert "a &lt; b &amp;&amp; c" in to_html("a < b && c")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("**bold** *soft* ~~gone~~", "<p><strong>bold</strong> <em>soft</em> <s>gone</s></p>"),
        ("one\ntwo", "<p>one<br>\ntwo</p>"),
        ("3. c\n4. d", '<ol start="3">\n<li>c</li>\n<li>d</li>\n</ol>'),
        ("```py\nx < 1\n```", '<pre><code class="language-py">x &lt; 1\n</code></pre>'),
        ("# Title", "<h3>Title</h3>"),
        ("|a|\n|-|\n|1|", "<table>\n<thead>\n<tr>\n<th>a</th>"),
    ],
)
def test_markdown_is_markdown(text, made):
    assert to_html(text).strip().startswith(made)


def test_links_open_elsewhere_and_tell_nothing():
    ((_, _), (tag, attributes)) = seen("[x](https://example.org/?a=1&b=2)")
    assert tag == "a"
    assert attributes["href"] == "https://example.org/?a=1&b=2"
    assert attributes["target"] == "_blank"
    assert set((attributes["rel"] or "").split()) >= {"noopener", "noreferrer"}


def test_deep_nesting_ends():
    assert to_html(">" * 5000 + "x")
    assert to_html("[" * 5000)
    assert to_html("*" * 20_000)


def test_several_texts_are_rendered_at_once(steady):
    with steady.client(steady.key(Role.user)) as client:
        answer = client.post("/render", json={"texts": ["**a**", "<b>"]})
        assert answer.json() == {"html": ["<p><strong>a</strong></p>\n", "<p>&lt;b&gt;</p>\n"]}
        for body in ({"texts": "a"}, {"texts": [1]}, {"texts": ["x" * 200_001]}, {"texts": ["x"] * 501}, {}):
            assert client.post("/render", json=body).status_code == 400


def test_rendering_needs_a_key(steady):
    with steady.client("tw-wrong") as client:
        assert client.post("/render", json={"texts": []}).status_code == 401
