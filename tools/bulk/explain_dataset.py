"""Explain a folder or a table of images into Parquet, with Ray, on this machine or on a cluster.

read_source → exclusive → Ray's BulkActor → Parquet files → check_written → report

Every image becomes one row, which contains its error if it has one. An interrupted run continues when the command is
started again: it skips images that have a row. See docs/bulk.md.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import signal
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    import pyarrow as pa
    import ray
    from ray import cloudpickle
    from ray.exceptions import RayError
except ImportError as missing:
    sys.exit(f"explain_dataset: {missing.name} is missing; run: python3 scripts/environment.py runtime demo ray")

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import tools.bulk
from tools.bulk.actor import SCHEMA, BulkActor, BulkJob
from tools.bulk.files import (
    DatasetError,
    Source,
    UnfinishedError,
    check_written,
    count_errors,
    exclusive,
    read_done,
    read_source,
)
from tools.bulk.worker_process import PROGRAM, WorkerError, WorkerProcess

OUTPUT = Path("build/explained")
ROWS_PER_FILE = 128
# Options of the handler's requests; docs/bulk.md describes them.
OPTIONS = ("targets", "explain", "threshold", "topk", "method", "layer", "smooth", "versus", "boxes")
# A lost node may take several actors with it while they load.
INIT_DEATHS = 10

ALL_ANSWERED, SOME_ERRORS, WRONG_USAGE, UNFINISHED, INTERRUPTED = 0, 1, 2, 3, 130


def connect(address: str) -> None:
    """Start Ray on this machine, or connect to a cluster; Ray logs to its files only."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = INIT_DEATHS
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # The cluster's nodes have the packages, but not this repository: ship the code of tools.bulk with the tasks.
    cloudpickle.register_pickle_by_value(tools.bulk)


def max_actors(*, gpu: bool) -> int:
    """Return how many actors the cluster has room for, one per GPU or one per core.

    Raises:
        DatasetError: it has no such resource.
    """
    resource = "GPU" if gpu else "CPU"
    if (count := int(ray.cluster_resources().get(resource, 0))) < 1:
        raise DatasetError(f"Ray has no {resource}")
    return count


def pending(source: Source, done: Counter[str], options: argparse.Namespace) -> Any:
    """Return the dataset of images without a row: columns `path` and, if the table contains bytes, `image`."""
    if source.root is None:
        columns = [options.path_column, options.image_column]
        table = ray.data.read_parquet(str(options.images), columns=columns)
        return table.map_batches(
            exclude_done, batch_format="pyarrow", fn_kwargs={"done": ray.put(frozenset(done)), "columns": columns}
        )
    paths = [path for path in source.paths if path not in done]
    parts = [paths[start : start + options.rows_per_file] for start in range(0, len(paths), options.rows_per_file)]
    return ray.data.from_arrow([pa.table({"path": part}) for part in parts])


def exclude_done(table: pa.Table, done: Any, columns: list[str]) -> pa.Table:
    """Return the rows of a table whose images have no row in the output."""
    done_paths = ray.get(done)
    path, image = (table[column] for column in columns)
    pending_rows = pa.array([name not in done_paths for name in path.to_pylist()], pa.bool_())
    return pa.table({"path": path, "image": image}).filter(pending_rows)


def explained(dataset: Any, actor: dict[str, Any], rows_per_file: int, actors: int, *, gpu: bool) -> Iterator[pa.Table]:
    """Explain a dataset with actors; yield the files that they write."""
    # Ray repeats the work of a lost actor on another one.
    files = dataset.map_batches(
        BulkActor,
        fn_constructor_kwargs=actor,
        batch_format="pyarrow",
        batch_size=rows_per_file,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, max_tasks_in_flight_per_actor=2),
        num_cpus=1,
        num_gpus=1 if gpu else 0,
    )
    yield from files.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def follow(files: Iterator[pa.Table], total: int, before: int, console: Console) -> None:
    """Show the progress of the run."""
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    rows, errors = before, 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Explaining", total=total, completed=before)
        for written in files:
            rows += sum(written["rows"].to_pylist())
            errors += sum(written["errors"].to_pylist())
            progress.update(task, completed=rows, description=f"Explaining, {errors} errors")
            if not console.is_terminal:
                console.print(f"{rows:,} of {total:,} images, {errors:,} errors in this run", highlight=False)


def run(options: argparse.Namespace, console: Console) -> int:
    """Explain the images, and return the exit status.

    Raises:
        DatasetError, WorkerError: nothing can be explained.
        RayError: Ray failed.
    """
    source = read_source(options.images, options.path_column, options.image_column)
    archive = read_archive(options.archive)
    parameters = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    program = Path(__file__).with_name(PROGRAM).read_text(encoding="utf-8")
    root = None if source.root is None else str(source.root)
    provenance = {
        "archive": hashlib.sha256(archive).hexdigest(),
        "options": parameters,
        "root": root or "",
        # Parquet files of other columns cannot be read together.
        "schema": hashlib.sha256(str(SCHEMA).encode()).hexdigest()[:12],
    }
    with exclusive(options.output, provenance) as run_name:
        done = read_done(options.output)
        missing = len(set(source.paths) - set(done))
        console.print(f"{len(source.paths):,} images, {missing:,} of them to explain", highlight=False)
        if missing:
            # An invalid archive or option fails for every image: detect it before Ray starts.
            WorkerProcess(archive, program, parameters).close()
            connect(options.address)
            actors = min(options.actors or sys.maxsize, max_actors(gpu=options.gpu))
            actor = {
                "archive": ray.put(archive),
                "job": BulkJob(program, parameters, root, str(options.output.absolute()), run_name),
            }
            dataset = pending(source, done, options)
            files = explained(dataset, actor, options.rows_per_file, actors, gpu=options.gpu)
            follow(files, len(source.paths), len(source.paths) - missing, console)
        check_written(options.output, source.paths)
        return report(options.output, len(source.paths))


def read_archive(path: Path) -> bytes:
    """Return the bytes of a model archive.

    Raises:
        DatasetError: the file is not a model archive, or cannot be read.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise DatasetError(f"{path} is not a model archive")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error


def report(output: Path, total: int) -> int:
    """Print the numbers of explained images and errors, and return the exit status."""
    errors = count_errors(output)
    print(f"{output}: {total:,} images, {total - errors.total():,} explained")
    for code, count in errors.most_common():
        print(f"  {count:,} × {code}")
    return SOME_ERRORS if errors else ALL_ANSWERED


def count(text: str) -> int:
    """Parse a positive integer."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Explain a folder or a table of images into Parquet, with Ray.",
        epilog="Exit status: 0 all images explained; 1 all images have a row, some with an error; 2 invalid input or "
        "options; 3 not finished, run the command again to continue; 130 interrupted, likewise.",
    )
    parser.add_argument("images", type=Path, metavar="FOLDER|TABLE", help="a folder, or a .csv or .parquet file")
    parser.add_argument("--archive", type=Path, required=True, help="the model, a .mar")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--path-column", default="path", help="column with paths or names (default: %(default)s)")
    parser.add_argument("--image-column", help="column with the images' bytes (default: read the paths)")
    parser.add_argument("--address", default="local", help="address of a Ray cluster, or auto (default: this machine)")
    parser.add_argument("--actors", type=count, metavar="N", help="maximum actors (default: one per core or GPU)")
    parser.add_argument("--gpu", action="store_true", help="give each actor a GPU")
    parser.add_argument("--rows-per-file", type=count, default=ROWS_PER_FILE, help="default: %(default)s")
    group = parser.add_argument_group("options of the request for each image")
    for name in OPTIONS:
        group.add_argument(f"--{name}", metavar=name.upper())
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = argument_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True)
    try:
        return run(options, console)
    except (DatasetError, WorkerError) as error:
        console.print(f"explain_dataset: {error}", markup=False, highlight=False, soft_wrap=True)
        return WRONG_USAGE
    except (RayError, UnfinishedError, ConnectionError) as error:
        console.print(f"explain_dataset: not finished: {error}", markup=False, highlight=False, soft_wrap=True)
        return UNFINISHED
    except KeyboardInterrupt:
        console.print("explain_dataset: interrupted; run the command again to continue")
        return INTERRUPTED
    finally:
        ray.shutdown()
