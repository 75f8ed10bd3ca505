-- uses: common, messages, finish
-- ARGV: ttl, then [run id, event]… Cancels those of the runs that wait. Returns their number.
local ttl, n = ARGV[1], 0

for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  if call('zscore', QUEUE, id) then
    local _, attempt = parse_header(message(id))
    remove_from_queue(id); mark_finished(id, attempt, ttl)
    add_event(ARGV[i + 1])
    n = n + 1
  end
end
return n
