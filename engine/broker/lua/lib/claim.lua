-- Claiming the next message. Needs common, messages, held.

local function hold(consumer, worker, id, score, limits)
  local fields = call('hmget', run(id), 'message', 'deliveries', 'since', 'unique')
  local data, delivery, since = fields[1] or '', (parse_count(fields[2]) or 0) + 1, fields[3]
  local dotted, attempt = parse_header(data)
  local task = short_name(dotted)
  if since then call('zrem', SINCE, id); call('hdel', run(id), 'since') end
  call('hset', HELD, id, table.concat({consumer, delivery, fields[4] and 'u' or '-', attempt or 1, worker, timestamp(),
                                       score, since or score, task}, ' '))
  local limit = limits and limits[task]
  if limit then
    local key = prefix .. 'rate:' .. task
    call('zadd', key, now, id .. ' ' .. delivery); call('expire', key, math.ceil(limit[2]))
  end
  local marks = dotted and call('exists', prefix .. 'kv:r:' .. id, prefix .. 'kv:rt:' .. dotted,
                                  prefix .. 'kv:' .. id, prefix .. 'spent:' .. id) or 0
  return {id, delivery, data, marks}
end

-- Returns when a rate-limited task may start again, nil if it may now.
local function limited_until(task, limits)
  local limit = limits[task]
  if not limit then return nil end
  local key = prefix .. 'rate:' .. task
  call('zremrangebyscore', key, '-inf', now - limit[2])
  if call('zcard', key) < limit[1] then return nil end
  return tonumber(call('zrange', key, -limit[1], -limit[1], 'withscores')[2]) + limit[2]
end
-- Returns the first run that may start, with its score. Paused and rate-limited ones are skipped.
local function first_ready(paused, limits)
  local from = 0
  while true do
    local ids, moved = call('zrange', QUEUE, from, from + 499, 'withscores'), 0
    if #ids == 0 then return nil end
    for j = 1, #ids, 2 do
      local id, score = ids[j], ids[j + 1]
      local task = short_name(parse_header(message(id)))
      if not paused[task] then
        local again = limited_until(task, limits)
        if not again then return id, score end
        local since = call('zscore', SINCE, id) or score
        remove_from_queue(id); add_to_schedule(id, again, (since - score) / PRIORITY_SECONDS)
        add_unsigned_event('limited', id, {due = string.format('%.6f', again)})
        moved = moved + 1
      end
    end
    from = from + 500 - moved
  end
end
-- Returns the first deferred run whose missing task this consumer has, with its place.
local function first_deferred(paused, limits, known_tasks)
  local first, place
  for _, task in ipairs(call('smembers', prefix .. 'missing')) do
    local head = known_tasks[task] and call('zrange', prefix .. 'missing:' .. task, 0, 0, 'withscores') or {}
    local name = head[1] and short_name(parse_header(message(head[1])))
    if name and not call('zscore', prefix .. 'schedule', head[1]) then
      remove_deferred(task, head[1])  -- an older version, without these keys, has moved it
    elseif name and not paused[name] and not limited_until(name, limits) and (not place or tonumber(head[2]) < place) then
      first, place = head[1], tonumber(head[2])
    end
  end
  return first, place
end
local function claim_next(consumer, worker, limits, known_tasks)
  local paused = {}
  for _, target in ipairs(call('hkeys', prefix .. 'pause')) do paused[target] = true end
  if paused[''] then return nil end
  local id, score = first_ready(paused, limits)
  local deferred, place = first_deferred(paused, limits, known_tasks)
  if not deferred or (id and tonumber(score) < place) then
    if id then call('zrem', QUEUE, id) end
  else
    local since = call('hget', run(deferred), 'since')
    id, score = deferred, remove_from_queue(deferred)
    if since then call('hset', run(id), 'since', since) end
    call('hdel', run(id), 'met', 'met_at')
  end
  return id and hold(consumer, worker, id, score, limits)
end
-- Returns the message that this worker already holds.
local function held_by(consumer, worker)
  local all = call('hgetall', HELD)
  for j = 1, #all, 2 do
    local held = parse_held(all[j + 1])
    if held.consumer == consumer and held.worker == worker then return {all[j], held.delivery, message(all[j]), 1} end
  end
end
