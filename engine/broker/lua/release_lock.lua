-- uses: common, locks
local name, owner = ARGV[1], ARGV[2]  -- owner '': any owner

local raw = call('hget', prefix .. 'locks', name)
local lock = raw and parse_lock(raw)
if not raw or (owner ~= '' and (not lock or lock[1] ~= owner)) then return 0 end
return call('hdel', prefix .. 'locks', name)
