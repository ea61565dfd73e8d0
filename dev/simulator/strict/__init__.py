"""Strict mode: each wire refuses what its vendor is documented to refuse, in the vendor's words.

The rules are data, one table a wire, each rule with the page or the recorded refusal that it comes from. They share
no code with the product, not even a constant: they judge what the product sends. Where a vendor's page and a recorded
refusal differ, the recorded one counts. See docs/adr/0024.
"""
