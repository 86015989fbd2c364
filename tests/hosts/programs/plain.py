"""Plain threads."""

from tests.hosts.checks import in_threads, say, service

say(**service(in_threads))
