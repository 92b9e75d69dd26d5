"""Wikitext as prose."""

import pytest

from experiments.data.text import wikitext

CASES = {
    "links show their words": (
        "[[Rome]] and [[Rome|the city]] of [https://a.b Italy] [https://a.b].",
        "Rome and the city of Italy.",
    ),
    "pictures and categories are not shown": (
        "[[File:A.png|thumb|A [[cat]].]]It.[[Category:Cats]] [[de:Katze]]",
        "It.",
    ),
    "a link to a category is": (
        "See [[:Category:Cats]] and [[:de:Katze|the German one]].",
        "See Category:Cats and the German one.",
    ),
    "bold and italic are plain": ("'''''A''' b'' ''c''.", "A b c."),
    "tables are not shown": (
        'Before.\n{| class="a"\n|-\n! a !! b\n|-\n| [[c]] || {{d}}\n|}\nAfter.',
        "Before.\n\nAfter.",
    ),
    "references are not shown": (
        'One<ref name="a/b">{{cite|1}} [[x]]</ref> two<ref name=c /> three.'
        "<references><ref>x</ref></references>",
        "One two three.",
    ),
    "a reference that is not closed takes little with it": (
        "One<ref> two.\n\nThree<ref>four</ref>.",
        "One two.\n\nThree.",
    ),
    "boxes are not shown": (
        "{{Infobox\n| a = [[b]]\n| c = {{d|e}}\n}}\n\nProse {{note|1}}here.",
        "Prose here.",
    ),
    "templates for words are": (
        "{{convert|5|km|mi}}, {{convert|5|to|10|km}}, {{lang|fr|le chat}},"
        " {{nowrap|a [[b]]}}, {{circa|1900}}, {{frac|1|2}} {{unknown|x}}.",
        "5 km, 5 to 10 km, le chat, a b, c. 1900, 1/2.",
    ),
    "what is empty in brackets goes with them": (
        "Rome ({{IPA-it|x}}; {{lang-la|Roma}}) is ({{x}}, {{y}}) old {{z}}.",
        "Rome (Roma) is old.",
    ),
    "an ellipsis stays": ("It is . . . so {{x}}.", "It is . . . so."),
    "formulas, code and galleries are not shown": (
        "<math>x^2</math>A<syntaxhighlight>b</syntaxhighlight>"
        "<gallery>\nc.png\n</gallery>",
        "A",
    ),
    "other tags show what they hold": (
        'H<sub>2</sub>O<br/>is <span style="a">wet</span> <b>today',
        "H2O\nis wet today",
    ),
    "entities are characters": (
        "35&nbsp;mm &ndash; R&amp;D &amp;nbsp;x",
        "35 mm – R&D x",
    ),
    "comments and magic words are not shown": (
        "A<!-- b\n\n c --> d.\n__NOTOC__\n",
        "A d.",
    ),
    "list items are lines": ("* a\n* b\n#c\n: d", "a\nb\nc\nd"),
    "blank lines are single": ("a\n\n\n\n \n\nb", "a\n\nb"),
    "markup that was not closed is not shown": (
        "a [[b\n{{c\n\n{| d\n| e\n|}}\nf",
        "a b\nc\n\nf",
    ),
    "headings of nothing are not shown": (
        "Top.\n== A ==\n=== B ===\n{{x}}\n== C ==\n=== D ===\nText.\n== E ==",
        "Top.\n\nC\n\nD\n\nText.",
    ),
    "what follows the article is cut off": (
        "Top.\n== See also ==\n* [[x]]\n=== More ===\ny\n== Life ==\nText.\n"
        "==References==\nz\n== External links == \n* z",
        "Top.\n\nLife\n\nText.",
    ),
    "nothing is nothing": ("{{x}}\n[[File:a.png]]\n* \n", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_shown(case):
  markup, prose = CASES[case]
  assert wikitext.clean(markup) == prose


def test_namespaces_may_have_names_of_another_language():
  markup = "[[Datei:A.png|x]]A [[Datei:A.png|thumb]]"
  assert wikitext.clean(markup, frozenset({"datei"})) == "A"


def test_what_is_nested_beyond_reason_still_ends():
  for markup in ("{{" * 5000, "[[" * 5000, "{|\n" * 500, "<b>" * 500):
    wikitext.clean(f"A {markup} b")
