-- uses: common, finish
local id = ARGV[1]

if call('zrem', prefix .. 'dead', id) == 0 then return 0 end
delete_run(id, true)
return 1
