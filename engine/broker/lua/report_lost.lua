-- uses: common, messages
-- ARGV: run ids. Adds an event for each run that does not exist. Returns their number.
local n = 0
for _, id in ipairs(ARGV) do
  if call('exists', run(id)) == 0 and call('hexists', HELD, id) == 0 then
    add_event('lost', id, {})
    n = n + 1
  end
end
return n
