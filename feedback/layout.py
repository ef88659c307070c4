"""Where feedback lies in Redis, and the scripts that change it atomically. Redis 6.2 commands and Lua only.

tw:completion:<id>      hash    policy, user, messages (hash), body (JSON; not there until the reply ends)
tw:completions          stream  one entry per logged completion: id; imported replies are not among them
tw:ratings:<id>         hash    rater → rating (JSON): the current state
tw:pair:<id>            hash    body (JSON)
tw:comparisons:<id>     hash    rater → comparison (JSON): the current state
tw:events               stream  everything that was said, in order: kind, body (JSON)
tw:marks                zset    place in the events → labels given by then, one a snapshot
tw:prompt:<messages>    string  an imported prompt (JSON), by its messages' hash
tw:prompts              stream  one entry per imported prompt: messages (hash)
tw:labels               int     labels ever given (a changed mind is the same label)
tw:policies:seen        set     policy versions that have counters
tw:count:<policy>       hash    counters: completions, broken, tokens, up, down, wins, losses, ties, both_bad
tw:count:<policy>:<h>   hash    the same, for the hour that starts at Unix second h
"""

PREFIX = "tw:"
COMPLETIONS = PREFIX + "completions"
EVENTS = PREFIX + "events"
LABELS = PREFIX + "labels"
MARKS = PREFIX + "marks"
PROMPTS = PREFIX + "prompts"
IMPORTED = "import"  # the policy of replies that no version of ours wrote: no counters are kept for it
SEEN = PREFIX + "policies:seen"
OPEN_TTL = 24 * 3600
PAIR_GRACE = 7 * 24 * 3600


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


def count_key(policy: str, hour: int | None = None) -> str:
    return f"{PREFIX}count:{policy}" if hour is None else f"{PREFIX}count:{policy}:{hour}"


_COUNT = """
local function count(policy, hour, field, by)
  if policy == 'import' then return end
  redis.call('SADD', 'tw:policies:seen', policy)
  redis.call('HINCRBY', 'tw:count:' .. policy, field, by)
  redis.call('HINCRBY', 'tw:count:' .. policy .. ':' .. hour, field, by)
end
local function hour_of(created) return string.format('%d', created - created % 3600) end
"""

# ARGV: per completion: id, policy, user, body, messages hash, created, tokens, broken (0 or 1).
# A batch that is sent again after a lost answer counts nothing twice.
LOG = (
    _COUNT
    + """
local logged = 0
for i = 1, #ARGV, 8 do
  local id, policy = ARGV[i], ARGV[i + 1]
  local key = 'tw:completion:' .. id
  if redis.call('HEXISTS', key, 'body') == 0 then
    redis.call('HSET', key, 'policy', policy, 'user', ARGV[i + 2])
    redis.call('HSET', key, 'body', ARGV[i + 3], 'messages', ARGV[i + 4])
    redis.call('PERSIST', key)
    redis.call('XADD', 'tw:completions', '*', 'id', id)
    local hour = hour_of(tonumber(ARGV[i + 5]))
    count(policy, hour, 'completions', 1)
    count(policy, hour, 'tokens', tonumber(ARGV[i + 6]))
    if ARGV[i + 7] == '1' then count(policy, hour, 'broken', 1) end
    logged = logged + 1
  end
end
return logged
"""
)

# ARGV: seconds after which an unfinished one is forgotten; then per reply that has begun: id, policy, user.
OPEN = """
for i = 2, #ARGV, 3 do
  local key = 'tw:completion:' .. ARGV[i]
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'policy', ARGV[i + 1], 'user', ARGV[i + 2])
    redis.call('EXPIRE', key, ARGV[1])
  end
end
return 1
"""

# ARGV: completion id, rater, rating (JSON). Returns the policy, or nil where there is no such completion.
RATE = (
    _COUNT
    + """
local policy = redis.call('HGET', 'tw:completion:' .. ARGV[1], 'policy')
if not policy then return nil end
local key = 'tw:ratings:' .. ARGV[1]
local before = redis.call('HGET', key, ARGV[2])
if before then
  local old = cjson.decode(before)
  count(policy, hour_of(old.created), old.rating, -1)
else
  redis.call('INCR', 'tw:labels')
end
local new = cjson.decode(ARGV[3])
count(policy, hour_of(new.created), new.rating, 1)
redis.call('HSET', key, ARGV[2], ARGV[3])
redis.call('XADD', 'tw:events', '*', 'kind', 'rating', 'body', ARGV[3])
return policy
"""
)

# ARGV: completion id, rater, time. Returns the rating that was withdrawn, or nil.
WITHDRAW = (
    _COUNT
    + """
local key = 'tw:ratings:' .. ARGV[1]
local before = redis.call('HGET', key, ARGV[2])
if not before then return nil end
local old = cjson.decode(before)
local policy = redis.call('HGET', 'tw:completion:' .. ARGV[1], 'policy')
if policy then count(policy, hour_of(old.created), old.rating, -1) end
redis.call('HDEL', key, ARGV[2])
redis.call('XADD', 'tw:events', '*', 'kind', 'withdrawal', 'body',
  cjson.encode({completion_id = ARGV[1], rater = ARGV[2], created = tonumber(ARGV[3])}))
return before
"""
)

# ARGV: pair id, rater, comparison (JSON), pair (JSON; stored where it is not there yet), policy a, policy b.
COMPARE = (
    _COUNT
    + """
local function tally(winner, hour, by)
  if winner == 'a' or winner == 'b' then
    count(ARGV[winner == 'a' and 5 or 6], hour, 'wins', by)
    count(ARGV[winner == 'a' and 6 or 5], hour, 'losses', by)
  else
    local field = winner == 'tie' and 'ties' or 'both_bad'
    count(ARGV[5], hour, field, by)
    count(ARGV[6], hour, field, by)
  end
end
local pair = 'tw:pair:' .. ARGV[1]
if redis.call('EXISTS', pair) == 0 then redis.call('HSET', pair, 'body', ARGV[4]) end
redis.call('PERSIST', pair)
local key = 'tw:comparisons:' .. ARGV[1]
local before = redis.call('HGET', key, ARGV[2])
if before then
  local old = cjson.decode(before)
  tally(old.winner, hour_of(old.created), -1)
else
  redis.call('INCR', 'tw:labels')
end
local new = cjson.decode(ARGV[3])
tally(new.winner, hour_of(new.created), 1)
redis.call('HSET', key, ARGV[2], ARGV[3])
redis.call('XADD', 'tw:events', '*', 'kind', 'comparison', 'body', ARGV[3])
return 1
"""
)

# ARGV: whether to write (0 or 1); then per line: kind, messages hash, prompt (JSON), completion a, its body,
# completion b, its body, pair id, pair (JSON), rater, label (JSON); what a kind lacks is empty.
# Returns for each line whether it was there already.
IMPORT = """
local function keep(id, body, messages)
  local key = 'tw:completion:' .. id
  if redis.call('HEXISTS', key, 'body') == 0 then
    redis.call('HSET', key, 'policy', 'import', 'user', '', 'body', body, 'messages', messages)
  end
end
local function add(kind, messages, prompt, a, a_body, b, b_body, pair, pair_body, rater, label)
  if redis.call('SETNX', 'tw:prompt:' .. messages, prompt) == 1 then
    redis.call('XADD', 'tw:prompts', '*', 'messages', messages)
  end
  if kind == 'prompt' then return end
  keep(a, a_body, messages)
  if kind == 'rating' then
    redis.call('HSET', 'tw:ratings:' .. a, rater, label)
  else
    keep(b, b_body, messages)
    redis.call('HSETNX', 'tw:pair:' .. pair, 'body', pair_body)
    redis.call('HSET', 'tw:comparisons:' .. pair, rater, label)
  end
  redis.call('INCR', 'tw:labels')
  redis.call('XADD', 'tw:events', '*', 'kind', kind, 'body', label)
end
local there = {}
for i = 2, #ARGV, 11 do
  local kind, rater = ARGV[i], ARGV[i + 9]
  if kind == 'rating' then
    there[#there + 1] = redis.call('HEXISTS', 'tw:ratings:' .. ARGV[i + 3], rater)
  elseif kind == 'comparison' then
    there[#there + 1] = redis.call('HEXISTS', 'tw:comparisons:' .. ARGV[i + 7], rater)
  else
    there[#there + 1] = redis.call('EXISTS', 'tw:prompt:' .. ARGV[i + 1])
  end
  if there[#there] == 0 and ARGV[1] == '1' then add(unpack(ARGV, i, i + 10)) end
end
return there
"""
