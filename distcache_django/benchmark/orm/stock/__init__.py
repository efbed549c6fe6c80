"""Hold the models that the benchmark of the ORM reads and writes; an application of the benchmark's own site."""
