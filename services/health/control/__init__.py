"""Control: what operators say of providers, which stands above the evidence; all of it remembered, and undone.

A change (`libs.change`) is of one thing: the mode of a target, the maintenance windows of a provider, the failovers
from a target. Of each thing the change that stands says all there is to obey, so changes are the state, and the
history is all of them. `ChangeMaker` makes one after another of each thing, for the fleet; `Operators` are the use
cases; `History` sends what analytics does not have yet and reads there what was lost here.

When it acts: at once on the replica that is called, within an exchange on the others, and on routers by the
judgements that follow. Maintenance windows and the end of a failover are decided from the change and the clock, on
every replica alike.

First start: what stands is read from Valkey, and where that is empty, from analytics. Valkey gone: a change holds
where it was made and is shared when Valkey is back; of two of one version the later stands. Valkey empty: every
replica tells it everything again. Analytics gone: what it does not have waits in Valkey and in memory. Both gone:
what each replica remembers holds.
"""
