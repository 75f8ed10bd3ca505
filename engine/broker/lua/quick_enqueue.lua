-- Fast path of write_effects, without libraries: new runs of one priority that start at once.
-- Returns 0, with nothing stored, if one was seen or revoked before. write_effects handles that case.
-- ARGV, then [run id, message]…: at most 1,000, as Lua's unpack uses a stack of 8,000 slots.
local prefix = KEYS[1]
local all_are_new, ahead, is_new_run = ARGV[1] == '1', tonumber(ARGV[2]), ARGV[3] == '1'  -- ahead: seconds, by priority
local call, run, events = redis.call, prefix .. 'run:', prefix .. 'events'

if not all_are_new then
  local seen = {}
  for i = 4, #ARGV, 2 do
    for _, kind in ipairs({'run:', 'spent:', 'kv:', 'kv:r:'}) do seen[#seen + 1] = prefix .. kind .. ARGV[i] end
  end
  if call('exists', unpack(seen)) > 0 then return 0 end
end
local clock, format, places = call('time'), string.format, {}
local second, micros = tonumber(clock[1]), tonumber(clock[2])
for i = 4, #ARGV, 2 do
  local id, data = ARGV[i], ARGV[i + 1]
  -- One microsecond apart, so that the order is kept.
  micros = micros + 1
  if micros == 1e6 then second, micros = second + 1, 0 end
  local place = format('%d.%06d', second, micros)
  call('hset', run .. id, 'message', data)
  if ahead ~= 0 then
    call('zadd', prefix .. 'since', place, id); call('hset', run .. id, 'since', place)
    place = format('%.6f', second + micros / 1e6 - ahead)
  end
  places[i - 3], places[i - 2] = place, id
  if is_new_run then call('xadd', events, '*', 'e', data) end
end
call('zadd', prefix .. 'queue', unpack(places))
local bell = prefix .. 'bell'
for _ = call('llen', bell), math.min(63, #places / 2 - 1) do call('lpush', bell, '1') end
return 1
