"""What both halves of secure aggregation share. The protocol: docs/secure-aggregation.md.

    terms     what a group has agreed upon before it begins, and the errors
    members   who takes part: certified, signed ephemeral keys
    graph     who masks with whom, and how many must answer
    keys      key agreement, derivation, sealing
    sharing   Shamir's secret sharing
    masks     a key's stream of residues
    packing   residues as bytes
    messages  the strict parsers of everything that is sent

No input or output, no clock, no Flower. After Bell, Bonawitz, Gascón, Lepoint, Raykova: "Secure
Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020.
"""
