"""One file a stage: a program, directory in, directory out. Tied to its worker before it loads torch."""

from workers.stage import die_with_worker

die_with_worker()
