"""What a check says."""

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    OK = enum.auto()
    WARNING = enum.auto()
    PROBLEM = enum.auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """`about` is what was looked at; `remedy` the command or page that mends it."""

    level: Level
    about: str
    message: str
    remedy: str = ""


def ok(about: str, message: str) -> Finding:
    return Finding(Level.OK, about, message)


def warning(about: str, message: str, remedy: str = "") -> Finding:
    return Finding(Level.WARNING, about, message, remedy)


def problem(about: str, message: str, remedy: str = "") -> Finding:
    return Finding(Level.PROBLEM, about, message, remedy)
