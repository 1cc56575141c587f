"""The protocol between server application and device: record names, types, refusal codes."""
