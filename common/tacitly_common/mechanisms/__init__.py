"""What is done to an update before it leaves, and the inverse on the sum."""
