-- uses: common, messages, finish, held
-- ARGV: [run id, event]… Requeues each run whose holder is unreadable, under a delivery number that the holder does not
-- have.
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local entry = call('hget', HELD, id)
  if entry and not parse_held(entry).consumer then
    call('hdel', HELD, id)
    local data, cancelled = unpack(call('hmget', run(id), 'message', 'cancel'))
    if data and cancelled then
      local _, attempt = parse_header(data)
      mark_finished(id, attempt, FINISHED_SECONDS)
      add_event(cancelled)
    elseif data then
      call('hset', run(id), 'deliveries', (parse_count(call('hget', run(id), 'deliveries')) or 0) + 1)
      add_to_queue(id, now, now)
      add_event(ARGV[i + 1])
    end
  end
end
