"""The pytest plugin of beamstalk: what a service's own tests need in order to look at events and actors.

pytest loads it by its entry point wherever beamstalk is installed, also in runs that never touch beamstalk: so it
imports nothing but pytest at its top, and never patches anything. Nothing imports it.
"""
