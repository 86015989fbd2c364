"""The programs are run, not collected."""

collect_ignore = ["programs"]
