"""The Markdown documents of the repository: their text, links and shell commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# `$(…)`, which may contain parentheses of its own.
_SUBSTITUTION: Final = re.compile(r"\$\(((?:[^()]|\([^()]*\))*)\)")
_PROMPTS: Final = ("$ ", "# ")
_SEPARATORS: Final = frozenset("();<>|&")


@dataclass(frozen=True, slots=True)
class Document:
    """One Markdown file.

    Attributes:
        name: its path from the root of the repository.
    """

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def prose(self) -> str:
        """The text without fenced blocks."""
        return _FENCE.sub("", self.text)

    @property
    def anchors(self) -> set[str]:
        """The anchors that GitHub generates for the headings."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}

    def section(self, heading: str) -> str:
        """Return the text under a heading, down to the next heading of its level or above."""
        level = heading.index(" ")
        text = self.text
        # A comment in a block of code is no heading.
        prose = _FENCE.sub(lambda fence: "-" * len(fence[0]), text)
        start = prose.index(f"\n{heading}\n") + 1
        end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(prose, start + len(heading))
        return text[start : end.start() if end else None]


def documents() -> list[Document]:
    """Return every document of the repository."""
    paths = [
        *ROOT.glob("*.md"),
        *(path for name in ("worker", "infra", "tests") for path in (ROOT / name).rglob("*.md")),
    ]
    return [Document(str(path.relative_to(ROOT))) for path in sorted(paths)]


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return [block for each, block in _FENCE.findall(text) if each == language]


def commands(text: str, prompts: tuple[str, ...] = _PROMPTS) -> list[str]:
    """Return the shell commands of the `sh` and `console` blocks of a text, in order.

    Args:
        text: The text of a document or a section.
        prompts: Prompts of the commands in `console` blocks; "# " is that of root on a host.
    """
    return [command for command, _ in session(text, prompts)]


def session(text: str, prompts: tuple[str, ...] = _PROMPTS) -> list[tuple[str, list[str]]]:
    """Return the shell commands of a text in order, each with the output that is shown for it."""
    steps: list[tuple[str, list[str]]] = []
    for language, block in _FENCE.findall(text):
        if language in {"sh", "console"}:
            steps += _steps(block, prompts=prompts if language == "console" else ("",))
    return steps


def _steps(block: str, *, prompts: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    lines = iter(block.splitlines())
    output: list[str] = []
    for line in lines:
        if not line:
            continue
        if not line.startswith(prompts):
            output.append(line)
            continue
        command = line if prompts == ("",) else line[2:]
        while _continues(command):
            command += "\n" + next(lines)
        output = []
        yield command, output


def _continues(command: str) -> bool:
    if command.endswith("\\"):
        return True
    try:
        shlex.split(command, comments=True)
    except ValueError:  # an open quotation
        return True
    return False


def calls(command: str) -> Iterator[list[str]]:
    """Split a command into the calls that it makes, those in `$(…)` included.

    Yields:
        The words of each call, leading assignments included; redirections are calls of their own.
    """
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= _SEPARATORS:
            if words:
                yield words
            words = [word] if ">" in word or "<" in word else []
        elif word != "-$":  # text between two substitutions
            for nested in _SUBSTITUTION.findall(word):
                yield from calls(nested)
            words.append(word)
    if words:
        yield words
