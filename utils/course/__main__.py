"""The course's tools, for the command line: `python -m utils.course --help`."""

import argparse
import glob
import sys
from pathlib import Path

try:
    from utils.course import badges, execution, pages, report, results
    from utils.course.notebooks import NotebookError, course_notebooks
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is missing, which is in the extra `dev`: "
        "pip install -e '.[dev]'"
    )

DEFAULT = "02-PyTorch-Basics/14_training_a_network.ipynb"


def matching(patterns: list[str]) -> list[Path]:
    """Return the notebooks that `patterns` name: files, folders, or shell patterns.

    Raises:
        NotebookError: A pattern names no notebook; the message lists those that there
            are.
    """
    found = []
    for pattern in patterns:
        named = [Path(name) for name in sorted(glob.glob(pattern))]
        inside = [path for folder in named for path in sorted(folder.glob("*.ipynb"))]
        notebooks = [
            path
            for path in named + inside
            if path.suffix == ".ipynb" and path.is_file()
        ]
        if not notebooks:
            there = (
                "\n".join(f"  {path}" for path in course_notebooks(Path()))
                or "  none in this folder"
            )
            raise NotebookError(f"no notebook matches {pattern}. There are:\n{there}")
        found += [path for path in notebooks if path not in found]
    return found


def execute(paths: list[Path]) -> None:
    """Run each notebook of `paths` and store its outputs.

    Raises:
        NotebookError: At least one failed; the others were run all the same.
    """
    failures = []
    for path in paths:
        print(f"{path}: ", end="", flush=True)
        try:
            print(f"{execution.execute(path):.1f} s")
        except NotebookError as error:
            print("failed")
            failures.append(str(error))
    if failures:
        counted = (
            f"{len(failures)} of {len(paths)} notebooks failed; their stored "
            f"outputs are as before"
        )
        raise NotebookError("\n\n".join([*failures, counted]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m utils.course", description="Run, measure, show, share."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser(
        "execute", help="run notebooks as they are and store their outputs"
    )
    command.add_argument(
        "paths", nargs="+", metavar="PATH", help="notebooks, folders or patterns"
    )

    command = commands.add_parser(
        "run", help="run one notebook without a browser, and write it as a page"
    )
    command.add_argument(
        "path", nargs="?", default=DEFAULT, metavar="PATH", help=f"default: {DEFAULT}"
    )

    commands.add_parser(
        "report", help="measure every stored notebook against the aims, worst first"
    )

    commands.add_parser(
        "results", help="write what the stored runs measured into RESULTS.md and README"
    )

    command = commands.add_parser(
        "site", help="write every stored notebook as a page, with an index"
    )
    command.add_argument(
        "folder", nargs="?", default="build/site", type=Path, help="default: build/site"
    )

    command = commands.add_parser(
        "badges", help="stamp Colab and Binder links into every notebook"
    )
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "repository", nargs="?", metavar="OWNER/NAME", help="the repository on GitHub"
    )
    which.add_argument("--remove", action="store_true", help="take the stamps out")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what goes wrong is said in a sentence, with exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "execute":
                execute(matching(options.paths))
            case "run":
                for path in matching([options.path]):
                    execution.run(path, Path("build"))
            case "report":
                print(report.report(Path()))
            case "results":
                for path in results.publish(Path()):
                    print(f"wrote {path}")
            case "site":
                print(f"page: {pages.site(Path(), options.folder)}")
            case "badges":
                changed = badges.stamp_all(Path(), options.repository)
                print(f"{changed} notebooks changed")
    except NotebookError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
