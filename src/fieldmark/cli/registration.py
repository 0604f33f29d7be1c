"""The app and its groups, and how a command is registered: with the help of the API function that it calls, and examples to copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from fieldmark import __version__

_GROUPS = ("Start", "Train", "Look at a run", "Use a run", "Deploy a run", "Find out what helps", "Data, and what there is", "Options")
START, TRAIN, LOOK, USE, DEPLOY, STUDY, DATA, _OPTIONS = (Group(title, sort_key=place) for place, title in enumerate(_GROUPS))


class _App(App):
    def generate_completion(
        self, *, prog_name: str | None = None, shell: Literal["zsh", "bash", "fish", "powershell"] | None = None
    ) -> str:
        """Cyclopts's, which in Bash completes names of files wherever it has nothing to offer, such as for DATA."""
        script = super().generate_completion(prog_name=prog_name, shell=shell)
        return script.replace("\ncomplete -F ", "\ncomplete -o default -F ")

    def help_print(
        self,
        tokens: Annotated[str | Iterable[str] | None, Parameter(show=False)] = None,
        *,
        console: Annotated[Any, Parameter(parse=False)] = None,
    ) -> None:
        """Cyclopts's, whose usage calls arguments that may be left out by their names."""
        words, apps, _ = self.parse_commands(tokens)
        if apps[-1].default_command is not None:
            apps[-1].usage = self._usage(words, apps)
        super().help_print(tokens, console=console)

    def _usage(self, words: Sequence[str], apps: Sequence[App]) -> str:
        from cyclopts.help import format_usage

        usage = format_usage(self, words, execution_path=apps).plain.rstrip()
        left_out = [each for each in apps[-1].assemble_argument_collection() if each.field_info.is_positional_only and not each.required]
        named = " ".join(
            f"[{each.name}{'...' * (each.field_info.kind is each.field_info.VAR_POSITIONAL)}]" for each in left_out if each.show
        )
        return usage.replace("[ARGS...]", named).replace("[ARGS]", named)


app = _App(
    name="fieldmark",
    help="Train, prove and ship fine-grained image classifiers.",
    help_epilogue="`fieldmark COMMAND --help` explains a command and shows examples.",
    version_flags=["--version"],
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command(help="Install the completion of commands and options in your shell, and exit.")
study = App(
    name="study",
    help="Train many recipes with many seeds; one table says which change helped.",
    help_epilogue="`fieldmark study COMMAND --help` explains a command and shows examples.",
    result_action="return_value",
    group=STUDY,
)
app.command(study)
for options in (app, study):
    for option in [name for name in options if name.startswith("-")]:
        options[option].group = _OPTIONS

Command = Callable[..., None]
_examples: dict[tuple[str, ...], tuple[str, ...]] = {}


def command(
    function: Callable[..., Any],
    *examples: str,
    group: Group | None = None,
    of: App = app,
    name: str | None = None,
    help: str | None = None,
) -> Callable[[Command], Command]:
    """Make a command of the app `of`, listed in `group`.

    Its help is the docstring of the API function that it calls; `help` replaces all but the arguments. `examples` are whole commands
    without "fieldmark".
    """

    def register(called: Command) -> Command:
        called.__doc__ = function.__doc__
        word = name or called.__name__
        words = (word,) if of is app else (of.name[0], word)
        _examples[words] = tuple(f"fieldmark {example}" for example in examples)
        shown = "\n\n".join(("Examples:", *(f"`{example}`" for example in _examples[words])))
        options: dict[str, Any] = {"help": help, "help_epilogue": shown, "sort_key": len(_examples)} | ({"group": group} if group else {})
        of.command(called, name=word, **options)
        return called

    return register


def examples_of(words: tuple[str, ...]) -> tuple[str, ...]:
    """Whole commands to copy; none for words that are no command."""
    return _examples.get(words, ())
