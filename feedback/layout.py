"""Where feedback lies in Redis. What changes it atomically stands in `scripts`. Redis 6.2 commands only.

tw:completion:<id>      hash    policy, user, created, tag, messages (hash), body (JSON; not there until the
                                reply ends), labels (ratings and answered pairs that it has now), tokens (of a
                                side of a blind pair)
tw:completions          stream  one entry per logged completion: id; imported replies are not among them
tw:ratings:<id>         hash    rater → rating (JSON): the current state
tw:pair:<id>            hash    body (JSON), tag (once it was answered)
tw:comparisons:<id>     hash    rater → comparison (JSON): the current state
tw:events               stream  everything that was said, in order: kind, body (JSON)
tw:marks                zset    place in the events → labels given by then, one a snapshot
tw:prompt:<messages>    string  an imported prompt (JSON), by its messages' hash
tw:prompts              stream  one entry per imported prompt: messages (hash)
tw:labels               int     labels ever given (a changed mind is the same label), less those that were
                                withdrawn before a snapshot saw them

Counters, kept as feedback comes, so that reading them costs the same at any number of ratings:

tw:counts:all           hash    what all that stands comes to, by the fields below
tw:counts:day:<d>       hash    the same, for the UTC day that starts at Unix second d
tw:counts:hour:<h>      hash    … and for the hour that starts at Unix second h
tw:counts:<…>:<tag>     hash    each of these again, for completions with a tag
tw:raters:all           zset    rater → labels on replies of ours
tw:raters:day:<d>       zset    … of one day; forgotten after RATERS_KEPT
tw:comments:<policy>    zset    the newest comments on a version by time: `rating <completion> <rater> <tag>`,
                                `comparison <pair> <rater> <tag>`
tw:tags, tw:reasons     set     words that have counters of their own: the first MOST_TAGS, MOST_REASONS; what
                                comes later counts as `other`, so that nobody can fill the store with words
tw:changes              int     how often counters have changed
tw:store                string  drawn by whoever looked first: another one after all was emptied
tw:changed              zset    start of an hour (Unix second) → number of the newest change of its counters
tw:recount              hash    how far feedback from before these counters has been counted: `recount`

    of <policy> <count>             completions, broken, tokens, up, down; rated: completions with any label
    pair <blind|named> <a> <b> <w>  comparisons of side a's version with side b's, by winner
    reason <kind> <policy> <reason> kind: up, down, chosen (of a pair), tie, both_bad

A completion counts in its own hour and day once it is logged, as `rated` too, so that no response rate
exceeds one; a thumb or a choice counts in those of when it was given. The tokens of a side of a blind pair
count once somebody has chosen: next to both texts they would tell who wrote which. Imported replies count as
a version of the name `import`.
"""

PREFIX = "tw:"
COMPLETIONS = PREFIX + "completions"
EVENTS = PREFIX + "events"
LABELS = PREFIX + "labels"
MARKS = PREFIX + "marks"
PROMPTS = PREFIX + "prompts"
IMPORTED = "import"  # the policy of replies that no version of ours wrote
TOTALS = PREFIX + "counts:all"
RATERS = PREFIX + "raters:all"
TAGS = PREFIX + "tags"
REASONS = PREFIX + "reasons"
CHANGES = PREFIX + "changes"
CHANGED = PREFIX + "changed"
STORE = PREFIX + "store"
RECOUNT = PREFIX + "recount"
OTHER = "other"
OPEN_TTL = 24 * 3600
PAIR_GRACE = 7 * 24 * 3600
HOUR, DAY = 3600, 24 * 3600
RATERS_KEPT = 100 * DAY
MOST_TAGS, MOST_REASONS, MOST_COMMENTS = 50, 100, 500


def completion_key(completion_id: str) -> str:
    return f"{PREFIX}completion:{completion_id}"


def ratings_key(completion_id: str) -> str:
    return f"{PREFIX}ratings:{completion_id}"


def pair_key(pair_id: str) -> str:
    return f"{PREFIX}pair:{pair_id}"


def comparisons_key(pair_id: str) -> str:
    return f"{PREFIX}comparisons:{pair_id}"


def prompt_key(messages_hash: str) -> str:
    return f"{PREFIX}prompt:{messages_hash}"


def totals_key(tag: str | None = None) -> str:
    return _tagged(TOTALS, tag)


def hour_key(hour: int, tag: str | None = None) -> str:
    return _tagged(f"{PREFIX}counts:hour:{hour}", tag)


def day_key(day: int, tag: str | None = None) -> str:
    return _tagged(f"{PREFIX}counts:day:{day}", tag)


def raters_key(day: int) -> str:
    return f"{PREFIX}raters:day:{day}"


def comments_key(policy: str) -> str:
    return f"{PREFIX}comments:{policy}"


def _tagged(key: str, tag: str | None) -> str:
    return key if tag is None else f"{key}:{tag}"
