"""Errors of command lines with subcommands."""

import pytest

from experiments.engine import parsing


@pytest.mark.parametrize("how", [{"dest": "command"}, {"metavar": "NAME"}])
@pytest.mark.parametrize(
    ("words", "message"),
    [([], " (one of flow, tag)"), (["tga"], "'tga' (did you mean 'tag'?)")],
)
def test_what_a_subcommand_could_be_is_told(how, words, message, capsys):
  parser = parsing.Parser()
  commands = parser.add_subparsers(required=True, **{"dest": "name", **how})
  commands.add_parser("flow")
  commands.add_parser("tag")
  with pytest.raises(SystemExit) as ended:
    parser.parse_args(words)
  assert ended.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ") and message in line
