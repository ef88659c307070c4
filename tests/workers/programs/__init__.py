"""Stages for tests of the runner: `steps` works for a while, `broken` fails."""

from workers.stage import die_with_worker

die_with_worker()
