import dsa110_assets as dsa110_assets  # sets the environment before numpy is loaded
