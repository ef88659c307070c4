"""What a browser is told to forbid: the second wall behind escaping.

No inline script, no eval, no inline style, nothing from elsewhere. A page with charts allows one thing more,
style attributes, since Plotly positions by them; no text of users ever comes near an attribute.
"""

SAME_ORIGIN = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
# The hash is of one sheet that Plotly adds for maps when it loads; without it the console complains.
FOR_CHARTS = {
    "style-src-elem": "'self' 'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='",
    "style-src-attr": "'unsafe-inline'",
}
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}


def page_headers(charts: bool = False) -> dict[str, str]:
    """`same-origin`, not `no-referrer`: by that a browser would send `Origin: null` to our own sign-in."""
    policy = {**SAME_ORIGIN, **(FOR_CHARTS if charts else {})}
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
        **NO_SNIFFING,
    }
