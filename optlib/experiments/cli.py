"""The command ``optlib``: list and run claims, report on them, take the tour."""

import enum
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

_NEEDS = "The command `optlib` needs {}. Fix: pip install 'optlib[experiments]'."


class _Scale(enum.StrEnum):
    quick = "quick"
    paper = "paper"


class _Backend(enum.StrEnum):
    numpy = "numpy"
    cupy = "cupy"
    torch = "torch"


def main() -> None:
    """Entry point of the command ``optlib``.

    Raises
    ------
    SystemExit
        With status 0 if all went well, 1 if a claim failed, 2 for wrong use or a missing extra.
    """
    try:
        run = app()
    except ImportError as error:
        sys.exit(_NEEDS.format(error.name))
    run()


def app() -> Any:
    """Build the typer application.

    Returns
    -------
    typer.Typer
        The application.

    Raises
    ------
    ImportError
        If a package of the extra ``experiments`` is missing.
    """
    for package in ("matplotlib", "sklearn"):  # say so now, not after the work is done
        if find_spec(package) is None:
            raise ImportError(name=package)
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    from optlib import __version__
    from optlib.experiments import experiments
    from optlib.experiments._records import UsageError, run_experiment
    from optlib.experiments.report import write_report
    from optlib.experiments.tour import take_tour

    cli = typer.Typer(
        help="Numerical optimization with a proof of quality: the tour, and the claims of papers, checked.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    console = Console()
    colours = {"pass": "green", "fail": "bold red"}
    backend_option = typer.Option(help="Array library that the solvers run on.")

    def stop(error: Exception) -> typer.Exit:
        Console(stderr=True).print(f"[bold red]error[/] {error}", highlight=False, soft_wrap=True)
        return typer.Exit(2)

    def show_version(value: bool) -> None:
        if value:
            console.print(f"optlib {__version__}", highlight=False)
            raise typer.Exit

    @cli.callback()
    def options(
        version: Annotated[bool, typer.Option("--version", callback=show_version, help="Print the version.")] = False,
    ) -> None:
        pass

    @cli.command("list")
    def list_() -> None:
        """List the experiments and their claims."""
        table = Table("id", "claim", "expected", "source", title_justify="left")
        for name, module in experiments().items():
            table.add_section()
            table.add_row(f"[bold]{name}", f"[bold]{module.TITLE}")
            for claim in module.CLAIMS:
                table.add_row(claim.id, claim.statement, f"{claim.criterion}", claim.source)
        console.print(table)

    @cli.command()
    def run(
        ids: Annotated[
            list[str], typer.Argument(metavar="ID...", help="Experiments or claims, as `optlib list` has them.")
        ],
        scale: Annotated[_Scale, typer.Option(help="Seconds, or the sizes of the papers.")] = _Scale.quick,
        backend: Annotated[_Backend, backend_option] = _Backend.numpy,
        seed: Annotated[int, typer.Option(min=0, help="Seed of the random problems.")] = 0,
        out: Annotated[Path, typer.Option(help="Folder of the rows.")] = Path("optlib-results"),
        resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    ) -> None:
        """Run experiments and check their claims; the exit status is 1 if a claim fails."""
        modules = experiments()
        known = {claim.id: name for name, module in modules.items() for claim in module.CLAIMS} | {
            n: n for n in modules
        }
        for given in ids:
            if given not in known:
                raise stop(UsageError(f"`ID`: got {given!r}; expected one of {', '.join(known)}."))
        failed = False
        for name in dict.fromkeys(known[given] for given in ids):
            columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=console) as bar:
                task = bar.add_task(name, total=None)
                try:
                    record = run_experiment(
                        modules[name], out, scale=scale.value, backend=backend.value, seed=seed, resume=resume,
                        on_row=lambda done, total, bar=bar, task=task: bar.update(task, completed=done, total=total),
                    )  # fmt: skip
                except UsageError as error:
                    raise stop(error) from error
            table = Table("claim", "measured", "expected", "verdict")
            for verdict in modules[name].check(record.rows):
                failed |= verdict.status == "fail"
                status = f"[{colours.get(verdict.status, 'yellow')}]{verdict.status}"
                measured = "" if verdict.measured is None else f"{verdict.measured:.4g}"
                table.add_row(verdict.claim.id, measured, str(verdict.claim.criterion), status)
            console.print(table)
        console.print(f"Rows are in {out}; the page: optlib report {out}", highlight=False, soft_wrap=True)
        if failed:
            raise typer.Exit(1)

    @cli.command()
    def report(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder given to `optlib run --out`.")],
    ) -> None:
        """Write one self-contained HTML page from the rows in a folder."""
        try:
            path = write_report(folder)
        except UsageError as error:
            raise stop(error) from error
        console.print(f"{path}", highlight=False, soft_wrap=True)

    @cli.command()
    def tour(
        backend: Annotated[_Backend, backend_option] = _Backend.numpy,
        out: Annotated[Path, typer.Option(help="Folder of the page and the images.")] = Path("optlib-tour"),
        pixels: Annotated[int, typer.Option(min=1, help="Pixels of each photograph, at least.")] = 20_000,
        resume: Annotated[
            bool, typer.Option("--resume/--fresh", help="Go on with what is there, or start again.")
        ] = True,
    ) -> None:
        """Solve real problems and write one page with pictures, certificates and timings."""
        try:
            path = take_tour(out, backend=backend.value, pixels=pixels, fresh=not resume, show=True)
        except UsageError as error:
            raise stop(error) from error
        console.print(f"The page: {path}", highlight=False, soft_wrap=True)

    return cli
