"""What client and server share: events, plan, mechanisms, accounting and the wire.

Imports nothing of `tacitly_client`, `tacitly_server` or `tacitly_simulations`.
"""
