"""The app and its groups, and how a command is registered: with the help of the API function that it calls, and examples to copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from cyclopts import App, Group

from fieldmark import __version__

_GROUPS = ("Start", "Train", "Look at a run", "Use a run", "Deploy a run", "Find out what helps", "Data, and what there is")
START, TRAIN, LOOK, USE, DEPLOY, STUDY, DATA = (Group(title, sort_key=place) for place, title in enumerate(_GROUPS))


class _CompletingApp(App):
    def generate_completion(
        self, *, prog_name: str | None = None, shell: Literal["zsh", "bash", "fish", "powershell"] | None = None
    ) -> str:
        """Cyclopts's, which in Bash completes names of files wherever it has nothing to offer, such as for DATA."""
        script = super().generate_completion(prog_name=prog_name, shell=shell)
        return script.replace("\ncomplete -F ", "\ncomplete -o default -F ")


app = _CompletingApp(
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
