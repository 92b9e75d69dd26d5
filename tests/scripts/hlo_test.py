# ruff: noqa: E501  Programs have long lines.
"""What programs do, read from their text."""

import pytest

from scripts.benchmarks import hlo

PROGRAM = """HloModule jit_step, num_partitions=4

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(f32[] %x, f32[] %y)
}

%body (p: (s32[], f32[7,11])) -> (s32[], f32[7,11]) {
  %whole = f32[28,11]{1,0} all-gather(f32[7,11] %part), dimensions={0}
}

%cond (p: (s32[], f32[7,11])) -> pred[] {
}

ENTRY %main (a: f32[7,11]) -> f32[7,11] {
  %loop = (s32[]) while(%start), condition=%cond, body=%body, FIVE_TIMES
  %both = (bf16[3]{0}, f32[]) all-reduce(%b, %c), to_apply=%add
  %begun = (f32[7], f32[28]) all-gather-start(%a), dimensions={0}
  %done = f32[28] all-gather-done(%begun)
}
"""


def test_what_a_program_sends_is_counted_as_often_as_it_is_sent():
  times = 'backend_config={"known_trip_count":{"n":"5"}}'
  program = PROGRAM.replace("FIVE_TIMES", times)
  assert hlo.exchanged(program) == {
      "all-gather": 5 * 4 * 28 * 11 + 4 * 28,
      "all-reduce": 2 * 3 + 4,
  }


# Lines as libtpu writes them, shortened, of a small step on v5e:2x2.
TPU = """HloModule jit_on_devices, is_scheduled=true, num_partitions=4

%cond (p: (s32[], bf16[4])) -> pred[] {
  %limit.1 = s32[]{:T(128)} constant(6)
  ROOT %less = pred[]{:T(512)} compare(%i, %limit.1), direction=LT
}

%body (p: (s32[], bf16[4])) -> (s32[], bf16[4]) {
  %all-gather.43 = bf16[4,4,16]{2,1,0:T(4,128)(2,1)S(1)} all-gather(%convert_bitcast_fusion.9), channel_id=20, replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}, dimensions={0}, use_global_device_ids=true
}

%async_collective_fusion.1 (p: bf16[8,16]) -> bf16[8,64] {
  %all-gather.9 = bf16[8,64]{1,0} all-gather(%p), channel_id=30, replica_groups=[1,4]<=[4], dimensions={1}
}

%async_collective_done.1 (p: bf16[8,16]) -> bf16[8,64] {
  %all-gather.10 = bf16[8,64]{1,0} all-gather(%p), channel_id=30, replica_groups=[1,4]<=[4], dimensions={1}
}

%all-reduce-scatter.3 (p: f32[8,16]) -> f32[2,16] {
  %all-reduce.5 = f32[8,16]{1,0} all-reduce(%p), channel_id=31, replica_groups={{0,1,2,3}}, to_apply=%add
}

ENTRY %main (a: bf16[4]) -> bf16[4] {
  %collective-permute-start.26 = (bf16[4,11]{1,0:T(4,128)(2,1)S(1)}, bf16[4,11]{1,0:T(4,128)(2,1)S(1)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%broadcast.1442), channel_id=114, source_target_pairs={{0,3},{1,0},{2,1},{3,2}}
  %collective-permute-done.26 = bf16[4,11]{1,0:T(4,128)(2,1)S(1)} collective-permute-done(%collective-permute-start.26)
  %all-reduce.161 = (f32[]{:T(128)}, f32[7]{0:T(128)S(1)}) all-reduce(%fusion.868, %get-tuple-element.4538), channel_id=2, replica_groups=mesh['axis_0'=1,'axis_1'=2,'axis_2'=2] {'axis_0','axis_2'}, use_global_device_ids=true, to_apply=%region_0.2.clone
  %reduce-scatter.7 = f32[2,16]{1,0} reduce-scatter(%x), channel_id=3, replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%add
  %async-collective-start = (bf16[8,16], bf16[8,64]) fusion(%a), kind=kCustom, calls=%async_collective_fusion.1
  %async-collective-done = bf16[8,64] fusion(%async-collective-start), kind=kCustom, calls=%async_collective_done.1
  %scattered = f32[2,16] fusion(%b), kind=kCustom, calls=%all-reduce-scatter.3
  %while.8 = (s32[]{:T(128)}, bf16[4]{0}) while(%a), condition=%cond, body=%body
}
"""


def test_a_tpus_collectives_are_counted_once_and_in_full():
  found = {}
  for each in hlo.collectives(hlo.Program(TPU)):
    found.setdefault(each.kind, []).append(each[1:])
  assert found == {
      "collective-permute": [(1, 2 * 4 * 11, 4, True)],
      "all-reduce": [(1, 4 + 4 * 7, 2, False)],
      # Its result is a part; a sum of which a part is kept is the same.
      "reduce-scatter": [(1, 4 * 8 * 16, 4, False)] * 2,
      "all-gather": [
          (1, 2 * 8 * 64, 4, True),
          (6, 2 * 4 * 4 * 16, 4, False),  # A loop whose length is a limit.
      ],
  }


def test_what_a_device_sends_goes_around_in_a_ring():
  sent = lambda kind: hlo.Collective(kind, 3, 400, 4, True).sent
  assert sent("all-gather") == sent("reduce-scatter") == 3 * 300
  assert sent("all-reduce") == 3 * 600
  assert sent("collective-permute") == 3 * 400


# A TPU has batched products as convolutions, the batch in their window.
PRODUCTS = """HloModule jit_step

ENTRY %main (a: bf16[8,8,256,32]) -> f32[8,8,256,2048] {
  %q = bf16[8,8,256,32]{3,2,1,0} parameter(0)
  %k = bf16[8,8,2048,32]{3,2,1,0} parameter(1)
  %x = f32[24,5]{1,0} parameter(2)
  %w = f32[5,7]{1,0} parameter(3)
  %convolution.39 = f32[8,8,256,2048]{3,2,1,0:T(8,128)} convolution(%q, %k), window={size=8x8 stride=7x7 lhs_dilate=8x8}, dim_labels=01bf_01oi->01bf
  %dot.1 = f32[24,7]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %gemm = (f32[24,7]{1,0}, s8[4]{0}) custom-call(%x, %w), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
}
"""


def test_products_are_counted_by_dtype():
  assert hlo.products(hlo.Program(PRODUCTS)) == {
      "bf16": pytest.approx(2 * 8 * 8 * 256 * 2048 * 32),
      "f32": 2 * (2 * 24 * 7 * 5),
  }


TRAFFIC = """HloModule jit_step

%slice_of_a (a: f32[64,128], i: s32[]) -> f32[1,128] {
  %a = f32[64,128]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,128]{1,0} dynamic-slice(%a, %i, %zero), dynamic_slice_sizes={1,128}
}

%put (a: f32[64,128], b: f32[1,128], i: s32[]) -> f32[64,128] {
  %a = f32[64,128]{1,0} parameter(0)
  %b = f32[1,128]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %new = f32[64,128]{1,0} dynamic-update-slice(%a, %b, %i, %zero)
}

%body (p: (s32[], f32[64,128])) -> (s32[], f32[64,128]) {
  %p = (s32[], f32[64,128]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %a = f32[64,128]{1,0} get-tuple-element(%p), index=1
  %row = f32[1,128]{1,0} fusion(%a, %i), kind=kLoop, calls=%slice_of_a
  %next = f32[64,128]{1,0} fusion(%a, %row, %i), kind=kLoop, calls=%put
  ROOT %both = (s32[], f32[64,128]{1,0}) tuple(%i, %next)
}

ENTRY %main (x: f32[64,128]) -> f32[64,128] {
  %x = f32[64,128]{1,0} parameter(0)
  %start = (s32[], f32[64,128]{1,0}) tuple(%zero, %x)
  %loop = (s32[], f32[64,128]{1,0}) while(%start), condition=%less, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %read = f32[64,128]{1,0} get-tuple-element(%loop), index=1
  ROOT %copied = f32[64,128]{0,1} copy(%read)
}
"""


def test_of_slices_only_what_is_moved_is_traffic():
  row, whole, index = 4 * 128, 4 * 64 * 128, 4
  per_trip = (2 * row + index) + (3 * row + index)
  assert hlo.traffic(hlo.Program(TRAFFIC)) == 5 * per_trip + 2 * whole
