"""What was seen, and when: the sampler, what it writes, and the times that follow from it."""
