"""What works on this machine and what does not, and the command that mends it."""
