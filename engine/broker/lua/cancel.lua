-- uses: common, messages, finish
-- Removes a waiting run. Marks a running one for its consumer to interrupt.
local id, event, ttl = ARGV[1], ARGV[2], ARGV[3]  -- event: of the cancel, which names the requester

local entry = call('hget', HELD, id)
if entry then
  call('hset', run(id), 'cancel', event)
  call('hset', HELD, id, (string.gsub(entry, '^(%S+ %d+ )(%S)', function(words, mark)
    return words .. (({['-'] = 'c', u = 'C'})[mark] or mark)
  end)))
  return 'running'
end
if not (call('zscore', QUEUE, id) or call('zscore', prefix .. 'schedule', id)) then return 'unknown' end
local _, attempt = parse_header(message(id))
remove_from_queue(id); mark_finished(id, attempt, ttl)
add_event(event)
return 'removed'
