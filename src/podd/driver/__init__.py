"""What podd asks of a driver (`contract`), and how drivers are found (`plugins`, `hookspecs`)."""
