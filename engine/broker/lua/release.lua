-- uses: common, messages, finish, held, locks, release
-- Returns the number of released runs.
local consumer, worker, reason = ARGV[1], ARGV[2], ARGV[3]  -- worker '': all workers of the consumer
local max_deliveries, counts = tonumber(ARGV[4]), ARGV[5] == '1'
local only, delivery = ARGV[6], tonumber(ARGV[7])  -- only '': all its messages and locks

return release(consumer, worker, reason, max_deliveries, counts, only, delivery)
