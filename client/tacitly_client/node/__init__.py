"""The device on the wire: Flower's Fleet connection, the policy, the egress guard."""
