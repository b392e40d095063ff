"""Explains a folder or a table of pictures into Parquet, with Ray, on this machine or on a cluster.

    scripts/explain_dataset.py PICTURES --archive model_store/resnet18.mar [--output build/explained]

Every picture becomes one row, with its error where it has one. A run that was interrupted goes on when it is started
again: pictures that have a row are not done again. docs/bulk.md says more.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
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

from tools.bulk import actor as dataset_actor
from tools.bulk import worker_process as dataset_engine
from tools.bulk.actor import Explainer, Work
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
from tools.bulk.worker_process import PROGRAM, Engine, EngineError

OUTPUT = Path("build/explained")
ROWS_PER_FILE = 128
# Of an option's names in the handler's requests; docs/bulk.md says what they mean.
OPTIONS = ("targets", "explain", "topk", "method", "layer", "smooth")
# A node that is lost may take several actors with it while they load.
INIT_DEATHS = 10

ALL_ANSWERED, SOME_ERRORS, WRONG_USAGE, UNFINISHED, INTERRUPTED = 0, 1, 2, 3, 130


def connect(address: str) -> None:
    """Starts Ray on this machine, or connects to a cluster; what it has to say stays in its log files."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = INIT_DEATHS
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # A node of the cluster has the packages, but not this repository.
    cloudpickle.register_pickle_by_value(dataset_engine)
    cloudpickle.register_pickle_by_value(dataset_actor)


def most_actors(*, gpu: bool) -> int:
    """Returns how many actors the cluster has room for, each with a core, and with a GPU where they are to have one.

    Raises:
        DatasetError: there is none.
    """
    resource = "GPU" if gpu else "CPU"
    if (found := int(ray.cluster_resources().get(resource, 0))) < 1:
        raise DatasetError(f"Ray has no {resource}")
    return found


def to_do(source: Source, done: Counter[str], table: argparse.Namespace) -> Any:
    """Returns the dataset of what has no row yet: columns `path` and, where the table has bytes, `image`."""
    if source.root is None:
        columns = [table.path_column, table.image_column]
        every = ray.data.read_parquet(str(table.pictures), columns=columns)
        return every.map_batches(
            without, batch_format="pyarrow", fn_kwargs={"done": ray.put(frozenset(done)), "columns": columns}
        )
    left = [path for path in source.paths if path not in done]
    parts = [left[start : start + table.rows_per_file] for start in range(0, len(left), table.rows_per_file)]
    return ray.data.from_arrow([pa.table({"path": part}) for part in parts])


def without(table: pa.Table, done: Any, columns: list[str]) -> pa.Table:
    """Returns the rows whose pictures are not done."""
    known = ray.get(done)
    path, image = (table[column] for column in columns)
    kept = pa.array([name not in known for name in path.to_pylist()], pa.bool_())
    return pa.table({"path": path, "image": image}).filter(kept)


def explained(dataset: Any, actor: dict[str, Any], rows_per_file: int, actors: int, *, gpu: bool) -> Iterator[pa.Table]:
    """Has the actors explain a dataset; yields which files they wrote."""
    # Ray does again what a lost actor had, on another one.
    files = dataset.map_batches(
        Explainer,
        fn_constructor_kwargs=actor,
        batch_format="pyarrow",
        batch_size=rows_per_file,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, max_tasks_in_flight_per_actor=2),
        num_cpus=1,
        num_gpus=1 if gpu else 0,
    )
    yield from files.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def follow(files: Iterator[pa.Table], total: int, before: int, console: Console) -> None:
    """Shows how far the run is."""
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    rows, errors = before, 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("Explaining", total=total, completed=before)
        for written in files:
            rows += sum(written["rows"].to_pylist())
            errors += sum(written["errors"].to_pylist())
            progress.update(task, completed=rows, description=f"Explaining, {errors} errors")
            if not console.is_terminal:
                console.print(f"{rows:,} of {total:,} pictures, {errors:,} errors in this run", highlight=False)


def run(options: argparse.Namespace, console: Console) -> int:
    """Explains, and returns the exit status.

    Raises:
        DatasetError, EngineError: nothing can be explained.
        RayError: Ray could not go on.
    """
    source = read_source(options.pictures, options.path_column, options.image_column)
    archive = read_archive(options.archive)
    asked = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    program = Path(__file__).with_name(PROGRAM).read_text(encoding="utf-8")
    made_by = {"archive": hashlib.sha256(archive).hexdigest(), "options": asked, "root": str(source.root or "")}
    with exclusive(options.output, made_by) as name:
        done = read_done(options.output)
        left = len(set(source.paths) - set(done))
        console.print(f"{len(source.paths):,} pictures, {left:,} of them to explain", highlight=False)
        if left:
            # What is wrong with archive or options is wrong with every picture: better found here.
            Engine(archive, program, asked).close()
            connect(options.address)
            actors = min(options.actors or sys.maxsize, most_actors(gpu=options.gpu))
            root = None if source.root is None else str(source.root)
            actor = {
                "archive": ray.put(archive),
                "work": Work(program, asked, root, str(options.output.absolute()), name),
            }
            dataset = to_do(source, done, options)
            files = explained(dataset, actor, options.rows_per_file, actors, gpu=options.gpu)
            follow(files, len(source.paths), len(source.paths) - left, console)
        check_written(options.output, source.paths)
        return report(options.output, len(source.paths))


def read_archive(path: Path) -> bytes:
    """Returns the bytes of a model archive.

    Raises:
        DatasetError: it is none.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise DatasetError(f"{path}: not a model archive")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error


def report(output: Path, total: int) -> int:
    """Prints what there is, and returns the exit status."""
    errors = count_errors(output)
    print(f"{output}: {total:,} pictures, {total - errors.total():,} explained")
    for code, count in errors.most_common():
        print(f"  {count:,} × {code}")
    return SOME_ERRORS if errors else ALL_ANSWERED


def count(text: str) -> int:
    """Reads a number of things."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; write 1 or more")
    return int(text)


def argument_parser() -> argparse.ArgumentParser:
    """Describes the command line."""
    parser = argparse.ArgumentParser(
        description="Explains a folder or a table of pictures into Parquet, with Ray.",
        epilog="Exit status: 0 all pictures explained; 1 all have a row, some of them an error; 2 nothing can be "
        "explained like this; 3 not finished, start it again to go on; 130 interrupted, likewise.",
    )
    parser.add_argument("pictures", type=Path, metavar="FOLDER|TABLE", help="a folder, or a .csv or .parquet file")
    parser.add_argument("--archive", type=Path, required=True, help="the model, a .mar")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--path-column", default="path", help="column that names the pictures (default: %(default)s)")
    parser.add_argument("--image-column", help="column with the pictures' bytes; if not given, paths are read")
    parser.add_argument("--address", default="local", help="of a Ray cluster, or auto; this machine if not given")
    parser.add_argument("--actors", type=count, metavar="N", help="the most; one a core, or one a GPU, if not given")
    parser.add_argument("--gpu", action="store_true", help="give each actor a GPU")
    parser.add_argument("--rows-per-file", type=count, default=ROWS_PER_FILE, help="default: %(default)s")
    asked = parser.add_argument_group("what to ask about each picture, as in a request")
    for name in OPTIONS:
        asked.add_argument(f"--{name}", metavar=name.upper())
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    options = argument_parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        return run(options, console)
    except (DatasetError, EngineError) as error:
        console.print(f"explain_dataset: {error}", markup=False, highlight=False, soft_wrap=True)
        return WRONG_USAGE
    except (RayError, UnfinishedError, ConnectionError) as error:
        console.print(f"explain_dataset: not finished: {error}", markup=False, highlight=False, soft_wrap=True)
        return UNFINISHED
    except KeyboardInterrupt:
        console.print("explain_dataset: interrupted; start it again to go on")
        return INTERRUPTED
    finally:
        ray.shutdown()
