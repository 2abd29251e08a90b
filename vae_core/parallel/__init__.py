"""Many trainings at once: here, in processes, on Dask; or stacked in one program."""
