"""Reference of the command line, from the functions that typer makes commands of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from markup import cell, code, table
from typer import Typer
from typer.models import ArgumentInfo, OptionInfo


def cli(_: str = "") -> str:
    """Return a section for every command: usage, help, arguments and options."""
    from audiotok.cli.program import program

    return "\n\n".join(_commands(program(), "audiotok", "##"))


def _commands(app: Typer, path: str, level: str) -> Iterator[str]:
    """Yield the sections of an app's commands, each group's followed by those of its commands."""
    groups = {str(group.name): group.typer_instance for group in app.registered_groups}
    single = {}
    for command in app.registered_commands:
        assert command.callback
        single[command.name or command.callback.__name__.replace("_", "-")] = command.callback
    for name in sorted([*groups, *single]):
        title = f"{path} {name}"
        yield f"({title.replace(' ', '-')})=\n{level} `{title}`"
        if name in groups:
            group = groups[name]
            assert group
            yield str(group.info.help)
            yield from _commands(group, title, f"{level}#")
        else:
            yield from _command(title, single[name])


def _command(title: str, function: Any) -> Iterator[str]:
    """Yield the parts of a command's section."""
    help_text, _, examples = inspect.cleandoc(function.__doc__).partition("\n\n\b\n")
    hints = get_type_hints(function, include_extras=True)
    arguments, options, usage = [], [], []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = _annotated(hints[name])
        value = parameter.default
        if isinstance(info, ArgumentInfo):
            shown = (info.metavar or name).upper() + ("..." if get_origin(kind) is list else "")
            usage.append(shown if value is parameter.empty else f"[{shown}]")
            arguments.append([code(shown), cell(info.help or "")])
        elif not info.hidden:
            facts = [_flags(name, kind, info), _type(kind, info), _default(value, parameter)]
            variable = f" Also `${info.envvar}`." if info.envvar else ""
            options.append([*facts, cell(info.help or "") + variable])
    yield f"```text\n{' '.join([title, *usage, '[OPTIONS]' if options else '']).strip()}\n```"
    yield help_text
    if examples:
        yield f"```console\n{_examples(examples)}\n```"
    if arguments:
        yield table(["argument", "meaning"], arguments)
    if options:
        yield table(["option", "value", "default", "meaning"], options)


def _annotated(hint: Any) -> tuple[Any, Any]:
    """Return the type of a parameter without None, and what typer is told of it."""
    assert get_origin(hint) is Annotated, hint
    kind, info = get_args(hint)[:2]
    assert isinstance(info, ArgumentInfo | OptionInfo), hint
    if get_origin(kind) in (Union, UnionType):
        kind = next(choice for choice in get_args(kind) if choice is not NoneType)
    return kind, info


def _flags(name: str, kind: Any, info: OptionInfo) -> str:
    """Return the spellings of an option; typer makes `--no-NAME` where none is declared."""
    long = f"--{name.replace('_', '-')}"
    undeclared = [long, f"--no-{long[2:]}"] if kind is bool else [long]
    declared = [info.default, *(info.param_decls or [])]  # typer calls the first one a default
    return ", ".join(map(code, [one for one in declared if isinstance(one, str)] or undeclared))


def _type(kind: Any, info: OptionInfo) -> str:
    """Return the values that an option takes, with their range."""
    if kind is bool:
        return "flag"
    if get_origin(kind) is list:
        return f"{_type(get_args(kind)[0], info)}, repeatable"
    if get_origin(kind) is Literal:
        return " or ".join(map(code, get_args(kind)))
    names = {str: "text", int: "integer", float: "number", Path: "path"}
    bounds = [("at least", info.min), ("at most", info.max)]
    return ", ".join([names[kind], *(f"{word} {n:g}" for word, n in bounds if n is not None)])


def _default(value: Any, parameter: inspect.Parameter) -> str:
    """Return the default of an option; its help says what leaving it unset means."""
    if value is parameter.empty:
        return "required"
    if value is False:
        return "off"
    return "unset" if value in (None, "") else code(str(value))


def _examples(text: str) -> str:
    """Return the examples of a help text as lines of a terminal."""
    lines = inspect.cleandoc(text.partition("\n")[2]).splitlines()
    return "\n".join(line if line.startswith(" ") else f"$ {line}" for line in lines)
