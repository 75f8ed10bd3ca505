-- uses: common, messages, insert
-- ARGV: effects… Returns the ids under which the runs go on.
return (write_effects(1))
