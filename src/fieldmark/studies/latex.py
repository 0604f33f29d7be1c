"""The table of a study in LaTeX, for papers: it compiles whatever the names are, and the best figures are bold."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby

from fieldmark.studies.columns import Column, best_rows, rung_columns, without_shared
from fieldmark.studies.explanations import about, heading, limits, sources
from fieldmark.studies.plan import QUICK
from fieldmark.studies.table import Row, StudyTable

_PREAMBLE = """\
% Needs \\usepackage{booktabs,graphicx}. Letters that pdfLaTeX cannot set need XeLaTeX or LuaLaTeX, and a font that has them.
\\providecommand{\\otherscript}[2]{\\ifdefined\\directlua#1\\else\\ifdefined\\XeTeXversion#1\\else#2\\fi\\fi}
\\providecommand{\\withinwidth}[1]{\\sbox0{#1}\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\usebox0}\\else\\usebox0\\fi}
"""
_NOTHING = "\u2060"
"""Between two hyphens, which would be a dash."""
_ESCAPES = {
    _NOTHING: "{}",
    **{each: f"\\{each}" for each in "{}$&#_%"},
    "\\": "\\textbackslash{}",
    "^": "\\textasciicircum{}",
    "~": "\\textasciitilde{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "`": "\\textasciigrave{}",
    "[": "{[}",  # after a line's end it would be an option
    "*": "{*}",
    "±": "$\\pm$",
    "×": "$\\times$",
    "−": "$-$",
    "≤": "$\\le$",
    "≥": "$\\ge$",
    "≈": "$\\approx$",
    "∞": "$\\infty$",
    "–": "--",
    "—": "---",
    "…": "\\dots{}",
    "→": "$\\rightarrow$",
    "“": "``",
    "”": "''",
    "‘": "`{}",
    "’": "'{}",
    "\ufffd": "?",
}
_GREEK = {
    letter: f"$\\{name}$"
    for letters, names in (
        (
            "αβγδεζηθικλμνξπρστυφχψω",
            "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon varphi chi psi omega",
        ),
        ("ΓΔΘΛΞΠΣΥΦΨΩ", "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"),
    )
    for letter, name in zip(letters, names.split(), strict=True)
}
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
_SET = frozenset("ßæøœłÆØŒŁı§¶£©®°·µ¬")
"""Letters beyond ASCII and its accents that pdfLaTeX sets in any encoding."""


def latex(table: StudyTable) -> str:
    """A table environment for each dataset, no wider than the text. Columns that are the same in all rows are said in the caption."""
    lines = [_PREAMBLE.rstrip("\n")]
    for dataset in table.datasets:
        chosen, same = without_shared([column for column in rung_columns(table) if column.paper], dataset.rows)
        sentences = [*([QUICK] if table.quick else []), *about(dataset), *sources(table), *limits(dataset), *([same] if same else [])]
        caption = f"{_sentence(table.title or table.name)} On {heading(dataset)}. {' '.join(sentences)}"
        label = re.sub(r"[^a-z0-9]+", "-", f"{table.name} {dataset.name}".lower()).strip("-")
        bold = {column.title: best_rows(column, dataset.rows) for column in chosen}
        lines += [
            "\\begin{table}",
            "\\centering",
            "\\small",
            f"\\caption{{{in_latex(caption)}}}",
            f"\\label{{tab:{label}}}",
            f"\\withinwidth{{\\begin{{tabular}}{{@{{}}{''.join('l' if column.left else 'r' for column in chosen)}@{{}}}}",
            "\\toprule",
            _line([in_latex(column.title) for column in chosen]),
            "\\midrule",
            *(_line([_cell(column, row, row in bold[column.title]) for column in chosen]) for row in dataset.rows),
            "\\bottomrule",
            "\\end{tabular}}",
            "\\end{table}",
        ]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    """With a capital letter at its beginning, and a full stop if nothing ends it."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")


def _cell(column: Column[Row], row: Row, bold: bool) -> str:
    text = in_latex(column.cell(row))
    return f"\\textbf{{{text}}}" if bold else text


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def in_latex(text: str) -> str:
    """Text as it is, never code. Letters that pdfLaTeX cannot set are written there by their code points."""
    figures = re.sub(r"(?<![\w.])-(?=\d)", "−", text)
    apart = re.sub(r"-(?=-)", f"-{_NOTHING}", figures)
    runs = groupby(unicodedata.normalize("NFC", apart), _is_set)
    return "".join("".join(map(_escaped, run)) if is_set else _other("".join(run)) for is_set, run in runs)


def _escaped(letter: str) -> str:
    return _ESCAPES.get(letter) or _GREEK.get(letter) or letter


def _other(letters: str) -> str:
    return f"\\otherscript{{{letters}}}{{{' '.join(f'U+{ord(letter):04X}' for letter in letters)}}}"


def _is_set(letter: str) -> bool:
    if letter in _ESCAPES or letter in _GREEK or letter in _SET or letter.isascii():
        return True
    parts = unicodedata.normalize("NFD", letter)
    return len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS
