"""Explain folders or tables of images into Parquet files, with Ray.

`explain_dataset` is the command; `files` lists the input and guards the output folder; `actor` runs on Ray's nodes and
writes the files; `worker_process` keeps an actor's process alive; `worker` is that process and imports the archive's
own `gradcam`. Only `worker` may import `gradcam`; Ray ships the rest of this package to nodes that do not have it.
"""
