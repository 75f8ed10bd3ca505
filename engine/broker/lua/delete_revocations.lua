-- uses: common
-- ARGV: run ids. Deletes non-expiring revocations of runs that no longer exist. Returns their number.
local n = 0
for _, id in ipairs(ARGV) do
  local key = prefix .. 'kv:r:' .. id
  if call('ttl', key) == -1 and call('exists', run(id)) == 0 then n = n + call('del', key) end
end
return n
