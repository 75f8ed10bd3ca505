-- uses: common, messages, finish
local id, ttl = ARGV[1], ARGV[2]

if call('zrem', prefix .. 'dead', id) == 0 then return 0 end
local _, attempt = parse_header(message(id))
mark_finished(id, attempt, ttl)
return 1
