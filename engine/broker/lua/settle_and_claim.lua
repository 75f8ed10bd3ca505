-- uses: common, messages, insert, finish, settle, held, claim
-- Settles the previous run and claims the next message: one round trip per task.
-- ARGV, then of the previous run, if there is one: run id, delivery, attempt, ttl, is_cancel, effects…
local consumer, worker = ARGV[1], ARGV[2]
local look_first = ARGV[3] == '1'  -- check for a message that this worker already holds
local limits, known_tasks = ARGV[4], ARGV[5]  -- JSON
local id, delivery, attempt, ttl, is_cancel = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]

local settled, by = -1, nil
if id then settled, by = settle(consumer, id, delivery, attempt, ttl, is_cancel, 11) end
if settled == -2 then return {settled, by} end
local known = {}
for _, task in ipairs(cjson.decode(known_tasks)) do known[task] = true end
local claimed = look_first and held_by(consumer, worker) or claim_next(consumer, worker, cjson.decode(limits), known)
return {settled, unpack(claimed or {})}
