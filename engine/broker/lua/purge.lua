-- uses: common, messages, finish
-- Cancels the first `limit` waiting runs. Returns their number.
local by, ttl, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])

local ids = call('zrange', QUEUE, 0, limit - 1)
for _, id in ipairs(ids) do
  local _, attempt = parse_header(message(id))
  remove_from_queue(id); mark_finished(id, attempt, ttl)
  add_event('cancelled', id, {by = by})
end
return #ids
