"""The control service: what a person's own programs may ask of their agent (control.proto).

The socket is reachable for its owner alone: run/ has mode 0700, the socket 0600, and Linux lets
nobody connect to a socket who may not write to it. gRPC adds that a connection is a local one;
it shows no peer's credentials that could be compared besides.
"""
