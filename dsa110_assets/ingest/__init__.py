"""From files in the input directory to observations that are processed once each.

`scan` and `watch` find files, `arrivals` assigns them to observations, `closing` ends the collecting of subbands,
`ledger` leases observations to runs, `status` shows all of it. Processing an observation begins in `conversion`.
"""
