"""Converts wikitext to prose."""

from collections.abc import Iterable
import html
import re
from typing import Any

import mwparserfromhell
from mwparserfromhell import nodes
from mwparserfromhell.parser import ParserError

from experiments.data.errors import DataError

# Links into these namespaces show an image or a file, or sort the article.
HIDDEN_LINKS = frozenset({"media", "file", "image", "category"})


class Malformed(DataError):
  """Wikitext that cannot be parsed."""


def clean(text: str, hidden_links: frozenset[str] = HIDDEN_LINKS) -> str:
  """The prose of an article.

  Args:
    text: wikitext.
    hidden_links: what namespaces of files, images and categories are called
      in its language, in small letters.

  Returns:
    its paragraphs, list items and headings, each a line; without boxes, tables,
    notes, and what follows the article, such as references.

  Raises:
    Malformed: if it cannot be parsed.
  """
  for pattern in (_COMMENT, _EMPTY_REF, _REF):
    text = pattern.sub("", text)
  text = _without_appendices(text)
  try:
    # Quotes that make text bold are cheaper to remove than to parse.
    parsed = mwparserfromhell.parse(text, skip_style_tags=True)
    # Some entities are escaped twice.
    shown = html.unescape(_shown(parsed, hidden_links))
  except (ParserError, RecursionError) as error:
    raise Malformed(str(error)) from error
  return _paragraphs(_tidy(shown).splitlines())


_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_EMPTY_REF = re.compile(r"<ref\b[^<>]*/>", re.IGNORECASE)
# One that is not closed must not take all text up to the next one with it.
_REF = re.compile(
    r"<ref\b[^<>]*>(?:[^<]|<(?!/?ref\b))*+</ref\s*>", re.IGNORECASE
)
_HEADING = re.compile(r"^(={2,6})([^=\n]+)\1[ \t]*$", re.MULTILINE)
_APPENDICES = frozenset("""
    references; external links; see also; further reading; notes; bibliography;
    notes and references; references and notes; sources; footnotes; citations;
    works cited; general references; external link; related pages;
    other websites
""".strip().replace("\n    ", " ").split("; "))


def _without_appendices(text: str) -> str:
  """Wikitext without appendices such as references and links."""
  kept, begin, cut_level = [], 0, 0
  for heading in _HEADING.finditer(text):
    level = len(heading[1])
    if cut_level and level <= cut_level:
      begin, cut_level = heading.start(), 0
    if not cut_level and heading[2].strip().lower() in _APPENDICES:
      kept.append(text[begin : heading.start()])
      cut_level = level
  return "".join(kept if cut_level else [*kept, text[begin:]])


def _shown(code: Any, hidden_links: frozenset[str]) -> str:
  """The words that parsed wikitext shows; headings as `_paragraphs` reads."""
  return "".join(_shown_node(node, hidden_links) for node in code.nodes)


def _shown_node(node: Any, hidden_links: frozenset[str]) -> str:
  match node:
    case nodes.Text():
      return node.value
    case nodes.HTMLEntity():
      return str(node.normalize())
    case nodes.Wikilink():
      return _shown_link(node, hidden_links)
    case nodes.ExternalLink():
      return _shown(node.title, hidden_links) if node.title else ""
    case nodes.Heading():
      title = _tidy(_shown(node.title, hidden_links)).strip()
      return f"\n\0{node.level}{title}\n" if title else ""
    case nodes.Tag():
      return _shown_tag(node, hidden_links)
    case nodes.Template():
      return _shown_template(node, hidden_links)
    case _:
      return ""


_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*|simple")


def _shown_link(link: nodes.Wikilink, hidden_links: frozenset[str]) -> str:
  target = str(link.title).strip()
  namespace, colon, _ = target.partition(":")
  namespace = namespace.strip().lower()
  if colon and namespace in hidden_links:
    return ""
  if link.text:
    return _shown(link.text, hidden_links)
  # The article in another language.
  if colon and _LANGUAGE.fullmatch(namespace):
    return ""
  return target.removeprefix(":")


_HIDDEN_TAGS = frozenset("""
    categorytree ce chem gallery graph hiero imagemap includeonly indicator
    inputbox mapframe maplink math pre ref references score section source style
    syntaxhighlight table templatedata templatestyles timeline
""".split())
_BLOCK_TAGS = frozenset("blockquote center div hr p poem".split())


def _shown_tag(tag: nodes.Tag, hidden_links: frozenset[str]) -> str:
  name = str(tag.tag).strip().lower()
  if name in _HIDDEN_TAGS:
    return ""
  if name == "br":
    return "\n"
  shown = _shown(tag.contents, hidden_links) if tag.contents else ""
  return f"\n{shown}\n" if name in _BLOCK_TAGS else shown


# Templates that stand for words of a sentence; the others are boxes and notes.
_WORDS = {
    **dict.fromkeys(
        (
            *("abbr", "angbr", "big", "blockquote", "chem2", "em", "ill"),
            *("interlanguage link", "ipa link", "ipalink", "ipaslink"),
            *("larger", "linktext", "math", "mono", "mvar", "nihongo", "nobr"),
            *("nowrap", "polytonic", "quote", "sc", "sic", "small", "sub"),
            *("smallcaps", "smaller", "strong", "sup", "unicode", "val"),
            *("vanchor", "var", "visible anchor"),
        ),
        "{0}",
    ),
    **dict.fromkeys(
        ("ipa", "lang", "script", "transl", "transliteration"), "{last}"
    ),
    **dict.fromkeys(("chem", "gaps"), "{all}"),
    **dict.fromkeys(("c.", "ca.", "circa"), "c. {0}"),
    **dict.fromkeys(("dash", "ndash", "snd", "spaced ndash", "spnd"), " – "),
    **dict.fromkeys(("fraction", "frac", "sfrac"), "{0}/{1}"),
    **dict.fromkeys(("convert", "cvt"), "{0} {1}"),
    **{"as of": "As of {0}", "mdash": "—", "nbsp": " ", "'": "'", "okina": "ʻ"},
    **{"hms": "HMS {0}", "uss": "USS {0}", "ship": "{0} {1}"},
}
_RANGES = frozenset({"to", "and", "or", "by", "x", "-", "–", "to(-)"})


def _shown_template(
    template: nodes.Template, hidden_links: frozenset[str]
) -> str:
  name = str(template.name).strip().lower().replace("_", " ")
  if name.startswith("formatnum:"):
    return name.removeprefix("formatnum:")
  form = "{0}" if name.startswith("lang-") else _WORDS.get(name)
  if form is None:
    return ""
  words = [
      _shown(parameter.value, hidden_links).strip()
      for parameter in template.params
      if str(parameter.name).strip().isdecimal()
  ]
  if form == "{0} {1}" and len(words) > 3 and words[1] in _RANGES:
    return " ".join(words[:4])  # From this to that, and the unit.
  last = words[-1] if words else ""
  return form.format(*words, "", "", last=last, all="".join(words))


# In this order.
_TIDINGS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # What remains of markup that was never closed.
        (r"</?[a-zA-Z][^<>\n]*>", ""),
        (r"'{2,}|__[A-Z]{3,}__|\[\[|\]\]|\{\{|\}\}|\u200b", ""),
        (r"[^\S\n]+", " "),
        # What templates leave around them.
        (r"\( ?(?:[,;:] ?)+", "("),
        (r"(?: ?[,;:])+ ?\)", ")"),
        (r" ?\( ?(?:e\.g\.|i\.e\.|or)? ?\)", ""),
        (r"\( ", "("),
        (r" \)", ")"),
        (r"(?<=[\w\"')\]]) +([,;]|\.(?! ?\.))(?=\s|$)", r"\1"),
        (r",(?: ?,)+", ","),
        (r",\.(?=\s|$)", "."),
    )
]


def _tidy(text: str) -> str:
  for pattern, replacement in _TIDINGS:
    text = pattern.sub(replacement, text)
  return text


def _paragraphs(lines: Iterable[str]) -> str:
  """Nonempty lines, and headings with following text."""
  kept = []
  level_below = 0  # Of the heading that follows; 7: it is text that follows.
  for line in reversed([line.lstrip(" :;*#").rstrip(" ") for line in lines]):
    if line.startswith("\0"):
      level = int(line[1])
      if level < level_below:
        kept += ["", line[2:], ""]
        level_below = level
    elif not line:
      kept.append("")
    elif line[0] not in "|!" and any(map(str.isalpha, line)):
      kept.append(line)
      level_below = 7
  return re.sub(r"\n{3,}", "\n\n", "\n".join(reversed(kept))).strip()
