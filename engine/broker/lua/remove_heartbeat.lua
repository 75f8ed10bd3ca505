local prefix, consumer = KEYS[1], ARGV[1]

redis.call('hdel', prefix .. 'beats', consumer)
redis.call('zrem', prefix .. 'beat_at', consumer)
