-- Put a batch of steps at the end of a stream, and say how many listen elsewhere.
-- KEYS: steps, listeners. ARGV: the batch's place, the batch, milliseconds the stream lasts without another.
redis.call('XADD', KEYS[1], ARGV[1] .. '-0', 'batch', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return redis.call('ZCARD', KEYS[2])
