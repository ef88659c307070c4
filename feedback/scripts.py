"""The Lua scripts that change feedback in Redis, each of them atomically: see `layout` for the keys.

Feedback that older gateways took is in no counter yet. A completion without `created`, or an answered pair
without `tag`, is one of those: whatever touches it first counts what it has, and the sweep in `recount`
touches them all. So counters are right at every moment for all that was touched, and nothing counts twice.
"""

from feedback.layout import MOST_COMMENTS, MOST_REASONS, MOST_TAGS, RATERS_KEPT

_COUNT = (
    f"""
local MOST_TAGS, MOST_REASONS, MOST_COMMENTS = {MOST_TAGS}, {MOST_REASONS}, {MOST_COMMENTS}
local RATERS_KEPT = {RATERS_KEPT}
"""
    + """
local function word(words, given, most)
  if given == '' or redis.call('SISMEMBER', words, given) == 1 then return given end
  if redis.call('SCARD', words) >= most then given = 'other' end
  redis.call('SADD', words, given)
  return given
end

-- The counters of a moment, about to change, and its day.
local function counters(created, tag)
  local day = string.format('%d', created - created % 86400)
  local hour = string.format('%d', created - created % 3600)
  redis.call('ZADD', 'tw:changed', redis.call('INCR', 'tw:changes'), hour)
  local keys = {'tw:counts:all', 'tw:counts:day:' .. day, 'tw:counts:hour:' .. hour}
  if tag ~= '' then
    for i = 1, 3 do keys[i + 3] = keys[i] .. ':' .. tag end
  end
  return keys, day
end

local function add(keys, field, by)
  for _, key in ipairs(keys) do redis.call('HINCRBY', key, field, by) end
end

local function reasons(keys, kind, policy, label, by)
  for _, reason in ipairs(label.reasons) do
    add(keys, 'reason ' .. kind .. ' ' .. policy .. ' ' .. word('tw:reasons', reason, MOST_REASONS), by)
  end
end

local function remark(policy, member, label, by)
  if type(label.comment) ~= 'string' or label.comment == '' then return end
  local key = 'tw:comments:' .. policy
  if by > 0 then
    redis.call('ZADD', key, label.created, member)
    redis.call('ZREMRANGEBYRANK', key, 0, -MOST_COMMENTS - 1)
  else
    redis.call('ZREM', key, member)
  end
end

local function heard(label, day, by)
  for _, key in ipairs({'tw:raters:all', 'tw:raters:day:' .. day}) do
    local labels = tonumber(redis.call('ZINCRBY', key, by, label.rater))
    if labels <= 0 then redis.call('ZREM', key, label.rater) end
    if labels == 1 and by > 0 and key ~= 'tw:raters:all' then redis.call('EXPIRE', key, RATERS_KEPT) end
  end
end

-- Count one thumb (by 1), or take it back (by -1).
local function thumb(id, policy, tag, label, by)
  local keys, day = counters(label.created, tag)
  add(keys, 'of ' .. policy .. ' ' .. label.rating, by)
  reasons(keys, label.rating, policy, label, by)
  remark(policy, 'rating ' .. id .. ' ' .. label.rater .. ' ' .. tag, label, by)
  if policy ~= 'import' then heard(label, day, by) end
end

-- Count one choice between the versions a and b, or take it back.
local function choice(id, way, a, b, tag, label, by)
  local keys, day = counters(label.created, tag)
  add(keys, 'pair ' .. way .. ' ' .. a .. ' ' .. b .. ' ' .. label.winner, by)
  local versions = a == b and {a} or {a, b}
  if label.winner == 'a' or label.winner == 'b' then
    reasons(keys, 'chosen', label.winner == 'a' and a or b, label, by)
  else
    for _, policy in ipairs(versions) do reasons(keys, label.winner, policy, label, by) end
  end
  for _, policy in ipairs(versions) do
    remark(policy, 'comparison ' .. id .. ' ' .. label.rater .. ' ' .. tag, label, by)
  end
  if a ~= 'import' or b ~= 'import' then heard(label, day, by) end
end

-- Count a reply that has ended, and has so many labels. The tokens of a side of a blind pair are kept, and
-- count while it has any: next to both texts they would tell who wrote which.
local function ended(key, keys, policy, tokens, broken, blind, labels)
  add(keys, 'of ' .. policy .. ' completions', 1)
  if broken then add(keys, 'of ' .. policy .. ' broken', 1) end
  if labels > 0 then add(keys, 'of ' .. policy .. ' rated', 1) end
  if blind then redis.call('HSET', key, 'tokens', tokens) end
  if labels > 0 or not blind then add(keys, 'of ' .. policy .. ' tokens', tokens) end
end

-- Count what an older gateway left of a completion.
local function adopt(id, policy)
  local key = 'tw:completion:' .. id
  local body = redis.call('HGET', key, 'body')
  local reply = body and cjson.decode(body)
  local created = reply and reply.created or tonumber(redis.call('TIME')[1])
  local found = redis.call('HVALS', 'tw:ratings:' .. id)
  if reply and policy ~= 'import' then
    local broken, blind = reply.finish_reason == cjson.null, type(reply.pair_id) == 'string'
    ended(key, counters(created, ''), policy, reply.completion_tokens, broken, blind, #found)
  end
  for _, rating in ipairs(found) do thumb(id, policy, '', cjson.decode(rating), 1) end
  redis.call('HSET', key, 'created', string.format('%.17g', created), 'tag', '', 'labels', #found)
  return tostring(created), ''
end

-- The policy, time and tag of a completion that is counted by now; nil where there is none.
local function known(id)
  local was = redis.call('HMGET', 'tw:completion:' .. id, 'policy', 'created', 'tag')
  if not was[1] then return nil end
  if was[2] then return was[1], was[2], was[3] end
  return was[1], adopt(id, was[1])
end

-- A completion that is known has one label more, or one less. It is kept from then on, so that the label can
-- be withdrawn, and counts as rated once it is logged.
local function answered(id, policy, created, tag, by)
  if not policy then return end
  local key = 'tw:completion:' .. id
  local labels = redis.call('HINCRBY', key, 'labels', by)
  redis.call('PERSIST', key)
  if policy == 'import' or redis.call('HEXISTS', key, 'body') == 0 then return end
  if by > 0 and labels == 1 or by < 0 and labels == 0 then
    local keys, tokens = counters(tonumber(created), tag), redis.call('HGET', key, 'tokens')
    add(keys, 'of ' .. policy .. ' rated', by)
    if tokens then add(keys, 'of ' .. policy .. ' tokens', by * tokens) end
  end
end

-- Count what an older gateway left of a pair.
local function adopt_pair(id)
  local was = redis.call('HMGET', 'tw:pair:' .. id, 'body', 'tag')
  if not was[1] or was[2] then return end
  local found = redis.call('HVALS', 'tw:comparisons:' .. id)
  if #found == 0 then return end
  local pair = cjson.decode(was[1])
  local way = pair.expires == cjson.null and 'named' or 'blind'
  for _, comparison in ipairs(found) do
    choice(id, way, pair.policy_a, pair.policy_b, '', cjson.decode(comparison), 1)
  end
  redis.call('HSET', 'tw:pair:' .. id, 'tag', '')
  for _, side in ipairs({pair.a, pair.b}) do
    local policy, created, tag = known(side)
    answered(side, policy, created, tag, 1)
  end
end
"""
)

# ARGV: per completion: id, policy, user, body, messages hash, created, tokens, broken (0 or 1), tag, side of
# a blind pair (0 or 1). A batch that is sent again after a lost answer counts nothing twice.
LOG = (
    _COUNT
    + """
local logged = 0
for i = 1, #ARGV, 10 do
  local id, policy, created = ARGV[i], ARGV[i + 1], ARGV[i + 5]
  local key = 'tw:completion:' .. id
  local _, when, tag = known(id)
  if redis.call('HEXISTS', key, 'body') == 0 then
    tag = tag or word('tw:tags', ARGV[i + 8], MOST_TAGS)
    created = when or created
    redis.call('HSET', key, 'policy', policy, 'user', ARGV[i + 2], 'created', created, 'tag', tag)
    redis.call('HSET', key, 'body', ARGV[i + 3], 'messages', ARGV[i + 4])
    redis.call('PERSIST', key)
    redis.call('XADD', 'tw:completions', '*', 'id', id)
    local keys, labels = counters(tonumber(created), tag), tonumber(redis.call('HGET', key, 'labels') or 0)
    ended(key, keys, policy, ARGV[i + 6], ARGV[i + 7] == '1', ARGV[i + 9] == '1', labels)
    logged = logged + 1
  end
end
return logged
"""
)

# ARGV: seconds after which an unfinished one is forgotten; then per reply that has begun: id, policy, user,
# created, tag.
OPEN = (
    _COUNT
    + """
for i = 2, #ARGV, 5 do
  local key = 'tw:completion:' .. ARGV[i]
  if redis.call('EXISTS', key) == 0 then
    local tag = word('tw:tags', ARGV[i + 4], MOST_TAGS)
    redis.call('HSET', key, 'policy', ARGV[i + 1], 'user', ARGV[i + 2], 'created', ARGV[i + 3], 'tag', tag)
    redis.call('EXPIRE', key, ARGV[1])
  end
end
return 1
"""
)

# ARGV: completion id, rater, rating (JSON). Returns the policy, or nil where there is no such completion.
RATE = (
    _COUNT
    + """
local id = ARGV[1]
local policy, created, tag = known(id)
if not policy then return nil end
local key = 'tw:ratings:' .. id
local before = redis.call('HGET', key, ARGV[2])
if before then
  thumb(id, policy, tag, cjson.decode(before), -1)
else
  redis.call('INCR', 'tw:labels')
  answered(id, policy, created, tag, 1)
end
thumb(id, policy, tag, cjson.decode(ARGV[3]), 1)
redis.call('HSET', key, ARGV[2], ARGV[3])
redis.call('XADD', 'tw:events', '*', 'kind', 'rating', 'body', ARGV[3])
return policy
"""
)

# ARGV: completion id, rater, time. Returns the rating that was withdrawn, or nil.
WITHDRAW = (
    _COUNT
    + """
local id = ARGV[1]
local policy, created, tag = known(id)
local key = 'tw:ratings:' .. id
local before = redis.call('HGET', key, ARGV[2])
if not before then return nil end
if policy then
  thumb(id, policy, tag, cjson.decode(before), -1)
  answered(id, policy, created, tag, -1)
end
-- What no snapshot has seen is no new label any more: else a thumb given and withdrawn, again and again,
-- would start updates.
local last = redis.call('ZRANGE', 'tw:marks', -1, -1)[1]
local seen = last and tonumber(string.match(last, '^%d+')) or 0
if cjson.decode(before).created * 1000 > seen then redis.call('DECR', 'tw:labels') end
redis.call('HDEL', key, ARGV[2])
redis.call('XADD', 'tw:events', '*', 'kind', 'withdrawal', 'body',
  cjson.encode({completion_id = id, rater = ARGV[2], created = tonumber(ARGV[3])}))
return before
"""
)

# ARGV: pair id, rater, comparison (JSON), pair (JSON; stored where it is not there yet), blind or named,
# policy a, policy b, completion a, completion b. Returns 1, or 0 where it is blind, and somebody's choice has
# shown its versions: then that one's winner stands, and nobody else chooses.
COMPARE = (
    _COUNT
    + """
local id, way, a, b = ARGV[1], ARGV[5], ARGV[6], ARGV[7]
adopt_pair(id)
local pair, key = 'tw:pair:' .. id, 'tw:comparisons:' .. id
local before = redis.call('HGET', key, ARGV[2])
local said = cjson.decode(ARGV[3])
if way == 'blind' then
  local other = before and cjson.decode(before).winner ~= said.winner
  if other or not before and redis.call('HLEN', key) > 0 then return 0 end
end
if redis.call('EXISTS', pair) == 0 then redis.call('HSET', pair, 'body', ARGV[4]) end
redis.call('PERSIST', pair)
local tag = redis.call('HGET', pair, 'tag')
if not tag then
  for side = 8, 9 do
    local policy, created, of_side = known(ARGV[side])
    answered(ARGV[side], policy, created, of_side, 1)
    tag = tag or of_side
  end
  tag = tag or ''
  redis.call('HSET', pair, 'tag', tag)
end
if before then
  choice(id, way, a, b, tag, cjson.decode(before), -1)
else
  redis.call('INCR', 'tw:labels')
end
choice(id, way, a, b, tag, said, 1)
redis.call('HSET', key, ARGV[2], ARGV[3])
redis.call('XADD', 'tw:events', '*', 'kind', 'comparison', 'body', ARGV[3])
return 1
"""
)

# ARGV: whether to write (0 or 1); then per line: kind, messages hash, prompt (JSON), completion a, its body,
# completion b, its body, pair id, pair (JSON), rater, label (JSON); what a kind lacks is empty.
# Returns for each line whether it was there already.
IMPORT = (
    _COUNT
    + """
local function keep(id, body, messages, created)
  local key = 'tw:completion:' .. id
  if not known(id) then
    redis.call('HSET', key, 'policy', 'import', 'user', '', 'body', body, 'messages', messages)
    redis.call('HSET', key, 'created', created, 'tag', '')
  end
end
local function add_line(kind, messages, prompt, a, a_body, b, b_body, pair, pair_body, rater, label)
  if redis.call('SETNX', 'tw:prompt:' .. messages, prompt) == 1 then
    redis.call('XADD', 'tw:prompts', '*', 'messages', messages)
  end
  if kind == 'prompt' then return end
  local said = cjson.decode(label)
  keep(a, a_body, messages, said.created)
  if kind == 'rating' then
    redis.call('HSET', 'tw:ratings:' .. a, rater, label)
    thumb(a, 'import', '', said, 1)
    answered(a, 'import', said.created, '', 1)
  else
    keep(b, b_body, messages, said.created)
    adopt_pair(pair)
    redis.call('HSETNX', 'tw:pair:' .. pair, 'body', pair_body)
    if redis.call('HSETNX', 'tw:pair:' .. pair, 'tag', '') == 1 then
      for _, side in ipairs({a, b}) do answered(side, 'import', said.created, '', 1) end
    end
    redis.call('HSET', 'tw:comparisons:' .. pair, rater, label)
    choice(pair, 'named', 'import', 'import', '', said, 1)
  end
  redis.call('INCR', 'tw:labels')
  redis.call('XADD', 'tw:events', '*', 'kind', kind, 'body', label)
end
local there, seen = {}, {}
for i = 2, #ARGV, 11 do
  local kind, rater, key, was = ARGV[i], ARGV[i + 9], nil, nil
  if kind == 'rating' then
    key = 'tw:ratings:' .. ARGV[i + 3]
    was = redis.call('HEXISTS', key, rater)
  elseif kind == 'comparison' then
    key = 'tw:comparisons:' .. ARGV[i + 7]
    was = redis.call('HEXISTS', key, rater)
  else
    key = 'tw:prompt:' .. ARGV[i + 1]
    was = redis.call('EXISTS', key)
  end
  -- A line that stands twice is there the second time, also where nothing is written.
  local place = key .. ' ' .. rater
  if seen[place] then was = 1 end
  seen[place] = true
  there[#there + 1] = was
  if was == 0 and ARGV[1] == '1' then add_line(unpack(ARGV, i, i + 10)) end
end
return there
"""
)

# ARGV: per thing that may be in no counter yet: completion or pair, its id.
ADOPT = (
    _COUNT
    + """
for i = 1, #ARGV, 2 do
  if ARGV[i] == 'pair' then adopt_pair(ARGV[i + 1]) else known(ARGV[i + 1]) end
end
return 1
"""
)
