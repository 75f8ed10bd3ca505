-- uses: common, messages, finish, held, locks, release
-- Returns how many runs were released.
local consumer, worker, reason = ARGV[1], ARGV[2], ARGV[3]  -- worker '': all of the consumer's
local max_deliveries, counts = tonumber(ARGV[4]), ARGV[5] == '1'
local only, delivery = ARGV[6], tonumber(ARGV[7])  -- only '': all that it holds, and its locks

return release(consumer, worker, reason, max_deliveries, counts, only, delivery)
