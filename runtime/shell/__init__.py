"""The shell: look into a running node, from a terminal or a script (`python -m runtime.shell`, or `beamstalk`).

It is a client: it speaks the introspection protocol over the node's Unix socket and imports no actor, so it works, and
keeps working, beside whatever the node is doing. `protocol` is what both ends share; everything else is the client's.
"""

__all__: list[str] = []
