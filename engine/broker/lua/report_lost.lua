-- uses: common, messages
-- ARGV: run ids. Writes an event for each of which there is nothing. Returns how many.
local n = 0
for _, id in ipairs(ARGV) do
  if call('exists', run(id)) == 0 and call('hexists', HELD, id) == 0 then
    add_event('lost', id, {})
    n = n + 1
  end
end
return n
