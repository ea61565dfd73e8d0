"""The history of what operators have changed: who, why, when, before and after.

The health service makes the changes and keeps those that stand in memory and in Valkey; here all are kept, each
written once under its id. It sends what is not here yet, and reads what stands where it has lost it.
"""
