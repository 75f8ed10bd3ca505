-- ARGV: [key, its type, event]… Renames each key that holds a value of another type. Returns their names.
local prefix, call, names, events = KEYS[1], redis.call, {}, {}

for i = 1, #ARGV, 3 do
  local key, kind, aside = prefix .. ARGV[i], ARGV[i + 1], prefix .. 'aside:' .. ARGV[i]
  local is = call('type', key).ok
  if is ~= 'none' and is ~= kind then
    call('rename', key, aside); call('expire', aside, 604800)
    names[#names + 1], events[#events + 1] = ARGV[i], ARGV[i + 2]
  end
end
-- Afterwards, as the stream may have been one of them.
for _, event in ipairs(events) do call('xadd', prefix .. 'events', '*', 'e', event) end
return names
