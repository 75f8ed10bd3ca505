-- uses: common, locks
-- A lock lives as long as its consumer sends heartbeats, or for its time.
local name, owner, consumer, worker = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local seconds, lease = ARGV[5], tonumber(ARGV[6])  -- seconds '': no end

local raw = call('hget', prefix .. 'locks', name)
local lock = raw and parse_lock(raw)
if lock then
  local heartbeat = lock[2] ~= '' and call('zscore', prefix .. 'beat_at', lock[2])
  local is_over = lock[4] ~= '' and now > tonumber(lock[4])
  local is_stale = lock[2] ~= '' and (not heartbeat or now - tonumber(heartbeat) > lease)
  if not is_over and not is_stale then return 0 end
end
call('zadd', prefix .. 'beat_at', 'XX', now, consumer)
local ends = seconds ~= '' and string.format('%.6f', now + seconds) or ''
call('hset', prefix .. 'locks', name, cjson.encode({owner, consumer, worker, ends}))
return 1
