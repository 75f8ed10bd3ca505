-- uses: common, messages, finish, held, locks, release
-- Releases the messages of consumers whose heartbeat is older than the lease. Returns the consumers' ids.
local lease, max_deliveries = tonumber(ARGV[1]), tonumber(ARGV[2])

-- After an outage every heartbeat is old. Without a reap within the last lease, the next one waits for new heartbeats.
local last = call('getset', prefix .. 'reaped', timestamp())
if not last or now - (tonumber(last) or 0) > lease then
  call('set', prefix .. 'patience', string.format('%.6f', now + lease / 2))
end
if now < (tonumber(call('get', prefix .. 'patience')) or 0) then return {} end
local all, last_claims, reaped = call('hgetall', HELD), {}, {}
for j = 1, #all, 2 do
  local held = parse_held(all[j + 1])
  if held.consumer then
    last_claims[held.consumer] = math.max(last_claims[held.consumer] or 0, tonumber(held.at))
  else
    release_unreadable(all[j])
  end
end
-- A claim counts as a heartbeat: a consumer that claims after waking is not reaped before its parent sends one.
for consumer, claimed_at in pairs(last_claims) do
  local at = call('zscore', prefix .. 'beat_at', consumer)
  if not at or now - math.max(tonumber(at), claimed_at) > lease then
    release(consumer, '', 'the consumer died', max_deliveries, true, '')
    reaped[#reaped + 1] = consumer
  end
end
return reaped
