"""Lease streams: routers hold slices of limits ahead of use and serve requests from them without a call.

A `LeaseSession` is one router's stream: it grants slices of all limits of the scopes asked for or of none, takes
reports of what was used, and revokes slices whose limit changed or whose store lost its memory. A slice is escrow:
`limits.lua` has counted it when it is granted, and it expires by itself, so a router that dies strands nothing for
longer than a slice's life. `sizing` bounds what is granted beyond need. A stream that breaks takes no slices with it;
its holder may report them on the next one.
"""
