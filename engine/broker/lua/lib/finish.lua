-- The end of a run. Needs common.

-- How long a repeated message of a cancelled run is recognised.
local FINISHED_SECONDS = 86400

-- Deletes a run except the mark that its attempts are finished. Returns the number of deleted keys.
local function delete_run(id, is_unique)
  local unique = is_unique and call('hget', run(id), 'unique')
  if unique and call('hget', prefix .. 'unique', unique) == id then call('hdel', prefix .. 'unique', unique) end
  return call('del', run(id), prefix .. 'kv:r:' .. id, prefix .. 'waits:' .. id)
end
local function mark_finished(id, attempt, ttl)
  if attempt then call('set', prefix .. 'spent:' .. id, attempt, 'EX', ttl) end
  delete_run(id, true)
end
