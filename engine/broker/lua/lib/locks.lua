-- Locks. Needs common.

-- Returns owner, consumer, worker, until. A malformed entry gives nil: its lock has no owner.
local function parse_lock(raw)
  local decoded, lock = pcall(cjson.decode, raw)
  if not decoded or type(lock) ~= 'table' then return nil end
  for j = 1, 4 do
    if type(lock[j]) ~= 'string' then return nil end
  end
  return (lock[4] == '' or tonumber(lock[4])) and lock or nil
end
local function release_locks(consumer, worker)
  local all = call('hgetall', prefix .. 'locks')
  for j = 1, #all, 2 do
    local lock = parse_lock(all[j + 1])
    if lock and lock[2] == consumer and (worker == '' or lock[3] == worker) then
      call('hdel', prefix .. 'locks', all[j])
    end
  end
end
