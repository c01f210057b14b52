"""podd-cli: kubectl's words over podd's control socket.

It must start fast, so a module here imports at its top only what every use of it needs. `main` knows the command
words and imports the one that was named; tables need nothing beyond the standard library's json, socket and argparse.
"""
