-- uses: common, messages, finish
-- ARGV: [run id, event]… Adds the event of each run that lies in no place, and deletes the rest of it. Returns their
-- number.
local function has_place(id)
  return call('hexists', HELD, id) == 1 or call('zscore', QUEUE, id) or call('zscore', prefix .. 'schedule', id)
         or call('zscore', prefix .. 'dead', id)
end

local n = 0
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  if not has_place(id) then
    delete_run(id, true)
    add_event(ARGV[i + 1])
    n = n + 1
  end
end
return n
