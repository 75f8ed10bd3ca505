-- uses: common, messages
-- Moves the lines into a new stream if the last position is before the one that was read, or a day ahead of the clock.
-- Returns 1 if so. A stream that is already renewed stays as it is.
local name, new_name, read_ms, read_number = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

if call('type', EVENTS).ok ~= 'stream' or call('get', prefix .. 'stream') ~= name then return 0 end
local info, last = call('xinfo', 'stream', EVENTS), nil
for j = 1, #info, 2 do
  if info[j] == 'last-generated-id' then last = info[j + 1] end
end
local ms, number = match(last, '^(%d+)-(%d+)$')
ms, number = tonumber(ms), tonumber(number)
local is_behind = ms < read_ms or (ms == read_ms and number < read_number)
if not is_behind and ms < (now + 86400) * 1000 then return 0 end
local rows = call('xrange', EVENTS, '-', '+')
call('del', EVENTS)
for _, row in ipairs(rows) do add_event(row[2][1] == 'e' and row[2][2] or '') end
call('set', prefix .. 'stream', new_name)
return 1
