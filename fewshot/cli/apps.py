"""The command line's commands hang on these; the modules beside this one add them."""

import typer

app = typer.Typer(
    help="Few-shot segmentation of breast ultrasound: which method gives the best lesion masks from 1-5 images?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Check datasets, prepare them, generate phantoms.", no_args_is_help=True)
episodes_app = typer.Typer(help="Sample few-shot tasks.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(episodes_app, name="episodes")
