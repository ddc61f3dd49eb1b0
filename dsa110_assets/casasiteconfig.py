"""CASA's site configuration: measures from the casadata wheel, no updates, no log files in the working directory.

casatools executes this file by its path (``CASASITECONFIG``); the platform does not import it. The names are CASA's.
"""

import casadata

measurespath = casadata.datapath
datapath = [casadata.datapath]
measures_auto_update = False
data_auto_update = False
nologfile = True
logfile = "/dev/null"  # casatools opens this file in the working directory, even with nologfile
log2term = False
nogui = True
