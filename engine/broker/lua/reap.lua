-- uses: common, held
-- Returns 1 if no consumer may be reaped yet, else 0 and the ids of the consumers that hold messages and whose
-- heartbeat is older than the lease.
local lease = tonumber(ARGV[1])

-- After an outage every heartbeat is old. Without a reap within the last lease, the next one waits for new heartbeats.
local last = call('getset', prefix .. 'reaped', timestamp())
if not last or now - (tonumber(last) or 0) > lease then
  call('set', prefix .. 'patience', string.format('%.6f', now + lease / 2))
end
local patience = tonumber(call('get', prefix .. 'patience')) or 0
if now < patience and patience <= now + lease then return {1} end  -- a later end is not ours
local all, last_claims, stale = call('hvals', HELD), {}, {0}
for _, entry in ipairs(all) do
  local held = parse_held(entry)
  if held.consumer then
    last_claims[held.consumer] = math.max(last_claims[held.consumer] or 0, tonumber(held.at))
  end
end
-- A claim counts as a heartbeat: a consumer that claims after waking is not reaped before its parent sends one.
for consumer, claimed_at in pairs(last_claims) do
  local at = call('zscore', prefix .. 'beat_at', consumer)
  if not at or now - math.max(tonumber(at), claimed_at) > lease then stale[#stale + 1] = consumer end
end
return stale
