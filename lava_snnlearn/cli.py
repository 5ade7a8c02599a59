"""The command line: ``lava-snnlearn run | methods | verify | emulate | check | deploy | export | import``."""

from __future__ import annotations

import traceback

import typer
from rich.console import Console

from lava_snnlearn.commands.check import check_file
from lava_snnlearn.commands.deploy import deploy_file
from lava_snnlearn.commands.emulate import emulate_file
from lava_snnlearn.commands.exchange import export_file, import_file
from lava_snnlearn.commands.run import run
from lava_snnlearn.commands.verify import verify_file

app = typer.Typer(
    name="lava-snnlearn",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    help="Train spiking networks in torch, convert them to Loihi's integers, run them on Lava, prove that both are equal.\n\n"
    "Start with [bold]lava-snnlearn run[/bold]: it trains OTTT on the embedded digits, quantizes to 8 bits, emulates the whole "
    "test set, verifies on Lava's simulator and writes runs/ottt-digits/report.html.",
)
app.command("run")(run)


@app.command("methods")
def list_methods() -> None:
    """List the training methods, their options and the papers to cite.

    Example:

      lava-snnlearn methods
    """
    from lava_snnlearn.commands.listing import method_blocks

    for block in method_blocks():
        typer.echo(f"{block}\n")


app.command("verify")(verify_file)
app.command("emulate")(emulate_file)
app.command("check")(check_file)
app.command("deploy")(deploy_file)
app.command("export")(export_file)
app.command("import")(import_file)


def main() -> None:
    """Entry point: errors become one line and exit status 2; what no user can mend keeps its traceback."""
    try:
        app()
    except (ValueError, TypeError, OSError, RuntimeError, ImportError, ArithmeticError, MemoryError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {error}")
        raise SystemExit(2) from None
    except Exception:
        # Not left to Python, whose exit status 1 would say "mismatch".
        traceback.print_exc()
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
