"""Native operators, and the same mathematics in plain torch to test them against."""
