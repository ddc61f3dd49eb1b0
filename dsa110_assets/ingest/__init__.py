"""From files in the input directory to observations that are processed once each.

`scan` and `watch` find files, `arrivals` books them and groups them into observations, `closing` decides when an observation
has all it will get, `ledger` says who works on it, `status` shows all of it. What does not belong here: what is done with an observation (`conversion` and after).
"""
