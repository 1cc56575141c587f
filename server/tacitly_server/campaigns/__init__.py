"""What officers agreed on, what is filed to run, and the grants that let it run."""
