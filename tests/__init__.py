"""The suite, one directory per package.

A package itself, so that `tests/supervisors` is `tests.supervisors` and never comes in place of `supervisors`.
"""
