"""One module for each revision; the names of their tables and columns never change again."""
