-- Acknowledging a delivery. Needs common, messages, insert, finish.

-- Returns 0, with nothing stored, if the worker no longer holds this delivery. Returns -2 and the requester, with
-- nothing stored, if the run was cancelled and this outcome is not a cancel. The effects begin at ARGV[i].
local function settle(consumer, id, delivery, attempt, ttl, is_cancel, i)
  local entry, own = call('hget', HELD, id), consumer .. ' ' .. delivery .. ' '
  if not entry or string.sub(entry, 1, #own) ~= own then return 0 end
  local mark = string.sub(entry, #own + 1, #own + 1)
  if is_cancel ~= '1' and (mark == 'c' or mark == 'C') then return -2, call('hget', run(id), 'cancel') or '?' end
  call('hdel', HELD, id)
  ending = id
  local _, stored = write_effects(i)
  if stored[id] then
    call('hdel', run(id), 'cancel'); call('hset', run(id), 'deliveries', delivery); call('del', prefix .. 'kv:r:' .. id)
  elseif not stored['kv:' .. id] then mark_finished(id, attempt, ttl)
  -- The run itself is one deleted key. If there were more, a client may wait for the result.
  elseif delete_run(id, mark == 'u' or mark == 'C') > 1 then wake_waiters(id) end
  return 1
end
