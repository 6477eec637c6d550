"""Makes `pytest` run the notebooks on tiny data; `pytest --full` runs them as they are.

No notebook knows of it: the overrides are appended to the parameters cell in memory.
"""

from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

from utils.course.notebooks import (
    NotebookError,
    course_notebooks,
    key_of,
    parameters_of,
    read_toml,
    tagged,
)

ROOT = Path(__file__).parent
TINY = "tests/tiny.toml"  # by notebook, the parameters that the tiny run overrides
TINY_ENVIRONMENT = {
    "CV_DATA": str(ROOT / "tests" / "data"),
    # the notebooks share the processor: two at once under `-n 2`
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def pytest_addoption(parser):
    parser.addoption(
        "--full",
        action="store_true",
        help="run notebooks at their own parameters and data",
    )


def pytest_configure(config):
    if config.option.full or not (config.option.nbval or config.option.nbval_lax):
        return
    try:
        unknown = read_toml(ROOT / TINY).keys() - set(
            map(key_of, course_notebooks(ROOT))
        )
    except NotebookError as error:
        raise pytest.UsageError(str(error)) from error
    if unknown:
        raise pytest.UsageError(
            f"{TINY} has a table for {', '.join(sorted(unknown))}, which is no notebook"
        )


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Put `CourseNotebook` in the place of nbval's own collector."""
    collectors = yield
    return [
        CourseNotebook.from_parent(parent, path=file_path)
        if isinstance(collector, IPyNbFile)
        else collector
        for collector in collectors
    ]


class CourseNotebook(IPyNbFile):
    """A notebook that runs with the overrides of `tests/tiny.toml` on `tests/data`."""

    # the first cell that raised: the cells after it have nothing to work with
    failed = None

    def collect(self):
        cells = list(super().collect())
        if not self.config.option.full:
            try:
                override(self.nb, key_of(self.path), read_toml(ROOT / TINY))
            except NotebookError as error:
                raise self.CollectError(f"{key_of(self.path)}: {error}") from error
        return cells

    def setup(self):
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TQDM_DISABLE", "1")
            if not self.config.option.full:
                environment.delenv("CV_MIRROR", raising=False)
                for name, value in TINY_ENVIRONMENT.items():
                    environment.setenv(name, value)
            super().setup()  # starts the kernel, which takes the environment with it


def override(nb, name, tables):
    """Append the overrides for the notebook `name` to its parameters, in memory."""
    declared = parameters_of(nb)
    if name not in tables:
        raise NotebookError(
            f'add a table ["{name}"] to {TINY}, empty if the notebook is quick as it is'
        )
    unknown = tables[name].keys() - declared.keys()
    if unknown:
        raise NotebookError(
            f"{TINY} overrides {', '.join(sorted(unknown))}, which its parameters cell "
            f"does not declare"
        )
    lines = [f"{parameter} = {value!r}" for parameter, value in tables[name].items()]
    (cell,) = tagged(nb, "parameters")
    cell.source = "\n".join([cell.source, f"# {TINY}", *lines])


def pytest_runtest_setup(item):
    if isinstance(item, IPyNbCell) and item.parent.failed:
        pytest.skip(f"{item.parent.failed} of this notebook raised an error")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if isinstance(item, IPyNbCell) and report.failed and report.when == "call":
        # An output that differs is a failure too, but leaves the cells below it all
        # they need.
        if any(output.output_type == "error" for output in item.test_outputs or []):
            item.parent.failed = item.name
    return report
