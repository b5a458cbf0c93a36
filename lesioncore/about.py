"""What every result says about itself."""

NOTE = "Research software, not a medical device."
