-- Held messages. Needs common.

-- Returns the fields of an entry of `held`, none for a malformed one.
local function parse_held(entry)
  local consumer, delivery, attempt, worker, at, score, since, task =
    match(entry, '^(%S+) (%d+) %S (%d+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  delivery, attempt = parse_count(delivery), parse_count(attempt)
  if not (delivery and attempt and tonumber(at) and tonumber(score) and tonumber(since)) then return {} end
  return {consumer = consumer, delivery = delivery, attempt = attempt, worker = worker, at = at,
          score = score, since = since, task = task}
end
