"""Attacks on what is deployed: what somebody could really learn, beside the ε that is claimed.

Each attacks the very functions that devices and server run; none can be pointed at a deployment.
A fault that an audit must find is planted by wrapping these functions here (`faults.py`), never by
a switch in them.
"""
