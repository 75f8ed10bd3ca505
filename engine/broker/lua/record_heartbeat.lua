local prefix, consumer, info = KEYS[1], ARGV[1], ARGV[2]

local clock = redis.call('time')
redis.call('hset', prefix .. 'beats', consumer, info)
redis.call('zadd', prefix .. 'beat_at', tonumber(clock[1]) + tonumber(clock[2]) / 1e6, consumer)
