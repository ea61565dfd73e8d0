"""Alerts of every kind, in one place: what limiters notice of quotas, and what is detected in the ledger.

`Detection` looks at the ledger's last hours every five minutes, on one replica at a time, and compares them with the
same hours of earlier days (`anomaly`), and shares of failures with earlier ones and with the objective of reliability
(`shares`); `explain` tells what moved. Limiters send what they raise and clear. Both become rows of one store, one
for each condition of one subject, which `ListAlerts` and `WatchAlerts` show and which people acknowledge and silence.
`Webhooks` sends each alert that is raised or over to the operator's destinations, signed, until they have taken it:
what is still to be sent is in the database, so a crash loses nothing and replicas share the work.
"""
