-- uses: common, messages, insert, finish, settle
-- ARGV, then effects…
local consumer, id, delivery, attempt, ttl, is_cancel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

return {settle(consumer, id, delivery, attempt, ttl, is_cancel, 7)}
