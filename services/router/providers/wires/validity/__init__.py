"""Makes a conversation valid for one wire, and undoes in the answer what was changed.

A conversation that one vendor takes another refuses: for ids of calls, the order of turns, blank texts, schemas,
counts. `make_valid` is the one step that closes the gap, by the rules that each wire declares (`rules.py`). It keeps
the meaning: what a vendor cannot express is said in words, or done by the router on the answer (`inverse.py`).
"""
