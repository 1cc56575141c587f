"""`python -m tacitly_server.officer`."""

from tacitly_server.officer import main

main()
