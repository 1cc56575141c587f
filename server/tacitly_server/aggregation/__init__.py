"""What is done to the replies of a round: check one, add one."""
