-- uses: common, messages, insert
-- ARGV: effects… Returns the run ids.
return (write_effects(1))
