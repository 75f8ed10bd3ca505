-- uses: common
-- A revocation expires if there is no run that would delete it at its end.
local id, revocation, ttl = ARGV[1], ARGV[2], ARGV[3]

call('set', prefix .. 'kv:r:' .. id, revocation)
if call('exists', run(id)) == 0 then call('expire', prefix .. 'kv:r:' .. id, ttl) end
