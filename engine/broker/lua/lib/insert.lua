-- Storing effects: messages, results, events. Needs common, messages.

-- True if the message of a known run is a new attempt: the run is not held and has not had this attempt.
local function is_new_attempt(id, data)
  if call('hexists', HELD, id) == 1 then return false end
  local _, attempt = parse_header(data)
  local _, stored = parse_header(message(id))
  local result = call('get', prefix .. 'kv:' .. id) or ''
  local finished = call('get', prefix .. 'spent:' .. id) or match(result, '^%S+ %S+ %S+ (%d+)')
  return not attempt or attempt > math.max(stored or 0, tonumber(finished) or 0)
end
-- Returns the run's id, or that of an earlier run with the same unique name, and whether the message was stored.
local function insert_message(id, data, priority, due, unique, once, delivered, is_new_run, at)
  if once ~= '' and not call('set', prefix .. 'kv:once:' .. once, '1', 'NX', 'EX', 604800) then return id, false end
  if unique ~= '' then
    local first = call('hget', prefix .. 'unique', unique)
    local stays = first and first ~= id and first ~= ending and call('exists', run(first)) == 1
    if stays and not call('zscore', prefix .. 'dead', first) then
      return first, false
    end
  end
  if call('exists', run(id), prefix .. 'spent:' .. id, prefix .. 'kv:' .. id) > 0 then
    if not is_new_attempt(id, data) then return id, false end
    remove_from_queue(id); call('zrem', prefix .. 'dead', id); call('hdel', run(id), 'deaths', 'met', 'met_at')
  end
  call('persist', prefix .. 'kv:r:' .. id)
  call('hset', run(id), 'message', data)
  if unique ~= '' then call('hset', prefix .. 'unique', unique, id); call('hset', run(id), 'unique', unique) end
  if delivered > 0 then call('hset', run(id), 'deliveries', delivered) end
  if due then add_to_schedule(id, due, priority) else add_to_queue(id, at - PRIORITY_SECONDS * priority, at) end
  if is_new_run then call('xadd', EVENTS, '*', 'e', data) end
  return id, true
end

-- Wakes the clients that wait for a result.
local function wake_waiters(key)
  call('lpush', prefix .. 'done:' .. key, '1'); call('expire', prefix .. 'done:' .. key, 60)
end
-- Effects from ARGV[i] on: number of messages, their eight words; results: key, data, ttl; events.
-- Returns the run ids, and what was stored: runs and results.
local function write_effects(i)
  local ids, stored = {}, {}
  for n = 1, tonumber(ARGV[i]) do
    local id = ARGV[i + 1]
    -- One microsecond apart, so that the order is kept.
    ids[n], stored[id] = insert_message(id, ARGV[i + 2], tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), ARGV[i + 5],
                                        ARGV[i + 6], tonumber(ARGV[i + 7]), ARGV[i + 8] == '1', now + n / 1e6)
    i = i + 8
  end
  i = i + 1
  for _ = 1, tonumber(ARGV[i]) do
    local key = ARGV[i + 1]
    call('set', prefix .. 'kv:' .. key, ARGV[i + 2], 'EX', ARGV[i + 3])
    stored['kv:' .. key] = match(ARGV[i + 2], '^%S+ %S+ %S+ [1-9]')
    if key ~= ending and call('del', prefix .. 'waits:' .. key) == 1 then wake_waiters(key) end
    i = i + 3
  end
  i = i + 1
  for j = i + 1, i + tonumber(ARGV[i]) do call('xadd', EVENTS, '*', 'e', ARGV[j]) end
  return ids, stored
end
