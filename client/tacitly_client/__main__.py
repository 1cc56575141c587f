"""`tacitly-agent` as `python -m tacitly_client`, for who has no path to the script."""

from tacitly_client.cli import main

if __name__ == "__main__":
    main()
