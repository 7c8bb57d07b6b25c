"""Where results are printed: standard output, as wide as its terminal."""

from rich.console import Console


def output_console() -> Console:
    """A console on standard output.

    Piped or logged, it has 140 columns: wrapping a table to 80 would break its rows.
    """
    console = Console()
    return console if console.is_terminal else Console(width=140)


def print_line(console: Console, text: str) -> None:
    """Print text as it is: a path may hold brackets, and must not be broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
