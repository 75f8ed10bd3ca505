-- Held messages. Needs common.

-- Returns the fields of an entry of `held`, none for a malformed one.
local function parse_held(entry)
  local consumer, delivery, attempt, worker, at, score, since, task =
    match(entry, '^(%S+) (%d+) %S (%d+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if not (tonumber(at) and tonumber(score) and tonumber(since)) then return {} end
  return {consumer = consumer, delivery = tonumber(delivery), attempt = tonumber(attempt), worker = worker, at = at,
          score = score, since = since, task = task}
end
-- Adds the holder of the run to an event.
local function with_holder(held, fields)
  fields.task = held.task; fields.delivery = held.delivery; fields.attempt = held.attempt; fields.started = held.at
  fields.worker = held.worker; fields.consumer = held.consumer
  return fields
end
