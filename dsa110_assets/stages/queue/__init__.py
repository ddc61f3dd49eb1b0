"""The work to do: intake of observations, planning of what follows, attempts at observations."""
