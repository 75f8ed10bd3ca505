-- uses: common, messages
-- ARGV: [run id, event]… Adds the event of each run that does not exist. Returns their number.
local n = 0
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  if call('exists', run(id)) == 0 and call('hexists', HELD, id) == 0 then
    add_event(ARGV[i + 1])
    n = n + 1
  end
end
return n
