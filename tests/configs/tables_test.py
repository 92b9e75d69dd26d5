"""What the papers' tables print is what the models have, or it says why not."""

import pytest

from configs import tables
from configs.tables import Reason
from configs.tables import Row
from configs.tables import TABLES
from experiments.engine.errors import UserError
from scripts import reproduce
from tests.conftest import ROOT

ROWS = [(key, row) for key, table in TABLES.items() for row in table.rows]
NAMES = [f"{key}: {row.label}" for key, row in ROWS]


@pytest.fixture(scope="module", params=ROWS, ids=NAMES)
def figures(request):
  """The counted columns of one row."""
  key, row = request.param
  ours = reproduce.counts_of(row)
  return [
      reproduce.Figure(
          key,
          row,
          column,
          row.paper.get(column),
          ours[column],
          reproduce.fit_of(row, column),
      )
      for column in reproduce.COUNTED
  ]


def test_counts_agree_or_have_a_reason_and_no_other_has(figures):
  for figure in figures:
    assert figure.agrees == (figure.reason is None), figure


def test_where_the_reason_is_known_the_printed_number_comes_out(figures):
  for figure in figures:
    if figure.fit is not None:
      assert figure.paper is not None
      printed = reproduce.value_of(figure.paper)
      assert figure.fit == pytest.approx(printed, rel=0.01)


def test_reasons_are_of_numbers_that_are_printed():
  for _, row in ROWS:
    assert row.reasons.keys() <= row.paper.keys() & set(reproduce.COUNTED)


def test_labels_are_unique():
  assert len(set(NAMES)) == len(NAMES)


def test_every_column_is_known_and_every_number_is_one():
  for _, row in ROWS:
    assert row.paper.keys() <= tables.COLUMNS.keys()
    assert all(reproduce.value_of(text) > 0 for text in row.paper.values())


def test_a_table_has_as_many_numbers_as_columns():
  with pytest.raises(ValueError, match="zip"):
    tables.table("", "params flops", ("one", "mlm:bytes", "201M"))


@pytest.mark.parametrize(
    "changes",
    [
        {"model.reads.num_read": 3},
        {"modl.reads.num_reads": 3},
        {"num_class": 3},
    ],
)
def test_a_typo_in_a_change_is_refused(changes):
  row = Row("", "imagenet:repeated", {}, changes)
  with pytest.raises(UserError, match="did you mean"):
    reproduce.config_of(row)
  with pytest.raises(UserError, match="did you mean"):
    reproduce.config_of(Row("", "imagenet:repeated", {}), changes)


def test_a_typo_in_a_changed_section_is_refused_by_the_model():
  changes = {"model.reads": {"num_reads": 8, "interleaved": True}}
  with pytest.raises(UserError, match="'interleaved'.*did you mean"):
    reproduce.config_of(Row("", "imagenet:repeated", {}, changes))


# Every language model of the papers whose FLOPs are printed.
LANGUAGE = {
    "sentencepiece": 119e9,
    "bert_base": 109e9,
    "bytes": 113e9,
    "bytes_128": 120e9,
    "bytes_512": 125e9,
}


@pytest.mark.parametrize("variant", LANGUAGE)
def test_one_rule_gives_the_flops_of_language_models(variant):
  config = reproduce.config_of(Row("", f"mlm:{variant}", {}))
  count = reproduce.masked_positions(config)
  assert count == pytest.approx(LANGUAGE[variant], rel=0.005)


@pytest.mark.parametrize(
    "variant, printed", [("bytes_plus_plus", 241e9), ("bert_bytes", 130e9)]
)
def test_of_two_language_models_everything_was_counted(variant, printed):
  config = reproduce.config_of(Row("", f"mlm:{variant}", {}))
  everything = reproduce.counts(config)["flops"]
  masked = reproduce.masked_positions(config)
  assert everything == pytest.approx(printed, rel=0.005)
  assert masked != pytest.approx(printed, rel=0.005)


def test_if_all_positions_are_masked_all_is_counted_but_half_a_product():
  config = reproduce.config_of(Row("", "mlm:tiny", {}))
  everything = reproduce.counts(config)["flops"]
  product = 2 * 29 * 12 * 262  # Positions, channels, tokens.
  count = reproduce.masked_positions(config, fraction=1)
  assert count == everything - product / 2
  assert reproduce.masked_positions(config, fraction=0.5) < count


def test_what_is_printed_for_learned_positions_is_that_of_fourier():
  by_config = {row.config: row.paper for row in TABLES["7"].rows}
  for model in ("imagenet:", "imagenet:perceiver_"):
    fourier, learned = (
        by_config[f"{model}fourier"],
        by_config[f"{model}learned"],
    )
    assert fourier["flops"] == learned["flops"]


def test_a_reason_has_one_way_to_count():
  for _, row in ROWS:
    for reason in row.reasons.values():
      assert isinstance(reason, Reason) and reason.text
      assert not (reason.fits and reason.count)


def test_the_page_of_sizes_has_what_is_printed():
  text = (ROOT / "docs" / "sizes.md").read_text()
  start = "<!-- python -m scripts.reproduce --columns=params,flops --table="
  keys, _, rest = text.partition(start)[2].partition(" --markdown -->\n")
  shown = rest.partition("<!-- end -->")[0]
  found = reproduce.chosen(keys.split(","), reproduce.COUNTED)
  pages = [each.markdown() for each in reproduce.pages_of(found)]
  assert shown.strip() == "\n\n".join(pages)
