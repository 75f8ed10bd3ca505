-- Messages: adding to and removing from queue and schedule.

-- The same as PRIORITY_SECONDS in engine/broker/effects.py.
local PRIORITY_SECONDS = 60

-- The run that is being settled. It does not block a follow-up with its unique name.
local ending

-- Adds an event that a program has signed.
local function add_event(line) call('xadd', EVENTS, '*', 'e', line) end
-- Adds an event that this script decides. It is not signed, so the history believes only its kinds `due` and `limited`.
local function add_unsigned_event(kind, id, fields)
  fields.kind = kind; fields.id = id; fields.at = timestamp()
  add_event(cjson.encode(fields))
end
local function message(id) return call('hget', run(id), 'message') or '' end

local function add_to_queue(id, score, since)
  call('zadd', QUEUE, score, id)
  if tonumber(since) ~= tonumber(score) then
    call('zadd', SINCE, since, id); call('hset', run(id), 'since', since)
  end
  if call('llen', prefix .. 'bell') < 64 then call('lpush', prefix .. 'bell', '1') end
end
local function add_to_schedule(id, due, priority)
  call('zadd', prefix .. 'schedule', due, id)
  if priority ~= 0 then call('hset', run(id), 'priority', priority) end
end
-- Returns the place in the queue of a deferred run, nil for others.
local function remove_deferred(task, id)
  local score = call('zscore', prefix .. 'missing:' .. task, id)
  call('zrem', prefix .. 'missing:' .. task, id)
  if call('exists', prefix .. 'missing:' .. task) == 0 then call('srem', prefix .. 'missing', task) end
  return score
end
local function remove_from_queue(id)
  call('zrem', QUEUE, id); call('zrem', SINCE, id); call('zrem', prefix .. 'schedule', id)
  local task = call('hget', run(id), 'missing')
  call('hdel', run(id), 'priority', 'since', 'missing')
  return task and remove_deferred(task, id)
end
