"""From Markdown that a model or a person wrote to HTML that can do nothing.

Two walls: the parser passes no HTML through, and what it made is cut down to a list of harmless tags. Links
open elsewhere and tell nothing; images are left as text, since fetching one tells its server who reads.
"""

from markdown_it import MarkdownIt
from nh3 import Cleaner

TAGS = frozenset(
    "a blockquote br code em h1 h2 h3 h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul".split()
)
SCHEMES = frozenset({"http", "https", "mailto"})
# Headings of a reply stand below the page's own, which end at the second level.
LOWER = {f"h{level}": f"h{min(level + 2, 6)}" for level in range(1, 7)}

_parser = (
    MarkdownIt("commonmark", {"html": False, "breaks": True})
    .enable(["table", "strikethrough"])
    .disable("image")
)
_cleaner = Cleaner(
    tags=set(TAGS),
    attributes={"a": {"href", "title", "target"}, "code": {"class"}, "ol": {"start"}},
    attribute_filter=lambda tag, name, value: _filtered(tag, name, value),
    url_schemes=set(SCHEMES),
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},
)


def to_html(text: str) -> str:
    """Harmless HTML for a Markdown text."""
    tokens = _parser.parse(text.replace("\0", ""))
    for token in tokens:
        token.tag = LOWER.get(token.tag, token.tag)
    return _cleaner.clean(_parser.renderer.render(tokens, _parser.options, {}))


def _filtered(tag: str, name: str, value: str) -> str | None:
    """Of classes only a code block's language, which the parser names."""
    if tag == "code" and name == "class" and not value.startswith("language-"):
        return None
    return value
