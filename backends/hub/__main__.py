"""`python -m backends.hub <hub>`: the worker, for `backends.hub.process`. Not for people."""

from backends.hub.worker import main

main()
