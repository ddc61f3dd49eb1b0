"""CASA's site configuration: measures from the casadata wheel, no updates, no log files in the working directory.

casatools executes this file by its path (``CASASITECONFIG``); it is not imported by the platform. The names are CASA's.
"""

import casadata

measurespath = casadata.datapath
datapath = [casadata.datapath]
measures_auto_update = False
data_auto_update = False
nologfile = True
logfile = "/dev/null"  # casatools opens what is named here in the working directory, whatever nologfile says
log2term = False
nogui = True
