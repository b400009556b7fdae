"""What in documents is an option, a default, a name, a heading that says nothing."""

from __future__ import annotations

import re

__all__ = [
    "DEFAULTS",
    "GENERIC",
    "HOW",
    "NAME",
    "NOUN",
    "NO_VALUE",
    "NUMBERED",
    "OPTION",
    "PARAMETERS",
    "RETURNS",
    "WORDY",
]

_UNITS = "(?: (?:bytes|seconds|minutes|KiB|MiB|MB|kB|ms|days|hours|pixels|percent))?"
_VALUE = rf"([\w./+%:-]+{_UNITS})"

OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z0-9?@#][\w-]*)")
DEFAULTS = (
    re.compile(rf"[Tt]he default(?: value| setting)? is (?:to use |set to )?[\"'`‘“]?{_VALUE}"),
    re.compile(rf"\b[Dd]efault(?:s to|:| is| value:| value is|=)\s*[\"'`‘“]?{_VALUE}"),
    re.compile(r"\([Dd]efault:? [\"'`‘“]?([\w./+%:-]+)[\"'`’”]?\)"),
    re.compile(r"(?:[Ss]tandard(?:wert|mäßig)?|[Vv]orgabe(?:wert)?)(?: ist|:)? [\"'„»]?([\w./+%:-]+)"),
    re.compile(r"[Pp]ar défaut(?: :| est|:)? [\"'«]?\s?([\w./+%:-]+)"),
    re.compile(r"(?:[Pp]or (?:omisión|defecto)|predeterminado)(?: es|:)? [\"'«]?([\w./+%:-]+)"),
)
NO_VALUE = frozenset(
    "the a an to that not for behavior behaviour is in this value used when if and or be only all use also "
    "of on-screen le la les un der die das el taken determined based same usually no-op supports".split()
)
"""What stands behind "default" and is no value."""
NOUN = re.compile(
    r"(?:Sets?|Specif(?:y|ies)|Defines?|Changes?) (?:the )((?:(?!default)[\w-]+ ){0,5}[\w-]+)"
    r"(?= (?:to|for|in|of|used|that)\b|$|[.,(])"
)
NAME = re.compile(r"^(\S+(?:, \S+)*) [-—–]+ (.{8,200})$")
PARAMETERS = (
    re.compile(r":param (?:[\w.\[\], ]+ )?(\w+): ([^\n]+(?:\n[ ]{4,}[^\n:]+)*)"),
    re.compile(r"^[ ]{0,8}(\w+) ?: ?[^\n]{1,80}\n((?:[ ]{4,}[^\n]+\n?)+)", re.M),
    re.compile(r"^[ ]{2,12}(\w+)(?: ?\([^)\n]{1,60}\))?: ([^\n]+(?:\n[ ]{6,}[^\n]+)*)", re.M),
)
"""As Sphinx, NumPy and Google write them."""
RETURNS = re.compile(
    r"(?:^[ ]*Returns?:?\s*\n(?:[ ]*-{3,}\n)?(?:[ ]*[\w\[\], .]{1,40}\n)?[ ]+|:returns?: )([^\n]+)", re.M
)
HOW = re.compile(r"^(?:how (?:do (?:I|you)|can (?:I|you)|to)|howto:?)\s+(.{4,140}?)\??$", re.I)
NUMBERED = re.compile(
    r"^(?:[A-Z]?[\d]+(?:\.\d+)*[.):]?|[§•*-])\s+|^(?:chapter|section|appendix|part)\s+[\dA-Z]+[.:]?\s*", re.I
)
WORDY = re.compile(r"\w\w|-\w|\d")
GENERIC = re.compile(
    r"^(note|warning|caution|tip|example|important|hint|description|options?|synopsis|name|see also|authors?"
    r"|copyright|bugs?|notes?|examples?|history|introduction|overview|contents|index|summary|usage"
    r"|reporting bugs|parameters|returns?|files|environment|license|references|abstract"
    r"|table of contents|.*manual)$",
    re.I,
)
"""Headings and terms that nobody asks about."""
