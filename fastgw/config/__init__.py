"""Cold: the TOML language, and its compilation into a snapshot."""
