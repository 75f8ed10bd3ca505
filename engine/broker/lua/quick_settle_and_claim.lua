-- Fast path of settle_and_claim, without libraries: the previous run ends with its final result and one event, and
-- nothing is rate-limited. Returns `paused`, with nothing claimed, if something is paused or deferred.
local prefix, consumer, worker = KEYS[1], ARGV[1], ARGV[2]
local id, delivery, ttl, result, event = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]  -- of the previous run, if any
local call = redis.call
local HELD, settled = prefix .. 'held', -1

if id then
  local entry, own = call('hget', HELD, id), consumer .. ' ' .. delivery .. ' '
  if entry and string.sub(entry, 1, #own) == own then
    local mark = string.sub(entry, #own + 1, #own + 1)
    if mark == 'c' or mark == 'C' then return {-2, call('hget', prefix .. 'run:' .. id, 'cancel') or '?'} end
    settled = 1
    -- First what may fail: a key may hold a wrong type of value. The step is then repeated.
    call('xadd', prefix .. 'events', '*', 'e', event)
    call('set', prefix .. 'kv:' .. id, result, 'EX', ttl)
    call('hdel', HELD, id)
    local unique = mark == 'u' and call('hget', prefix .. 'run:' .. id, 'unique')
    if unique and call('hget', prefix .. 'unique', unique) == id then
      call('hdel', prefix .. 'unique', unique)
    end
    -- The run itself is one deleted key. If there were more, a client may wait for the result.
    if call('del', prefix .. 'run:' .. id, prefix .. 'kv:r:' .. id, prefix .. 'waits:' .. id) > 1 then
      call('lpush', prefix .. 'done:' .. id, '1'); call('expire', prefix .. 'done:' .. id, 60)
    end
  else
    settled = 0
  end
end
if call('exists', prefix .. 'pause', prefix .. 'missing') > 0 then return {settled, 'paused'} end
local popped = call('zpopmin', prefix .. 'queue')
local next, score = popped[1], popped[2]
if not next then return {settled} end
local fields = call('hmget', prefix .. 'run:' .. next, 'message', 'deliveries', 'since', 'unique')
local data, delivery, since, clock = fields[1] or '', fields[2] or '0', fields[3], call('time')
-- Counts as parse_count in lib/common.lua reads them.
delivery = #delivery < 10 and string.match(delivery, '^%d+$') and delivery + 1 or 1
if since then call('zrem', prefix .. 'since', next); call('hdel', prefix .. 'run:' .. next, 'since') end
local task, attempt = string.match(data, '^%S+ run (%S+) (%d+) %S+ ')
if attempt and #attempt > 9 then task, attempt = nil, nil end
call('hset', HELD, next, string.format('%s %d %s %s %s %s.%06d %s %s %s', consumer, delivery,
     fields[4] and 'u' or '-', attempt or 1, worker, clock[1], clock[2], score, since or score,
     task and string.match(task, '[^.]*$') or '?'))
-- Marks at the broker that the run is revoked or has ended.
local marks = task and call('exists', prefix .. 'kv:r:' .. next, prefix .. 'kv:rt:' .. task,
                            prefix .. 'kv:' .. next, prefix .. 'spent:' .. next) or 0
return {settled, next, delivery, data, marks}
