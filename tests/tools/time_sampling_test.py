import importlib

from tools import time_sampling


def test_drawing_and_learning_are_timed():
  config = importlib.import_module("configs.autoregression").get_config("tiny")
  each = time_sampling.of_drawing(config, number=5, count=1)
  assert set(each) == {"kept", "again"}
  assert min(each.values()) > 0
  flops = []
  for length in (29, 290):
    call, count = time_sampling.of_learning(config, length)
    assert time_sampling.timed(call) > 0
    flops.append(count)
  assert 1 < flops[1] / flops[0] < 10
