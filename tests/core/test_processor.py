"""What the operating system says of the processor."""

import os

import pytest

from fieldmark.core import processor

ZEN4 = "flags\t\t: fpu sse sse4_1 avx avx2 fma avx512f avx512_bf16 bmi1\nbugs\t\t: sysret_ss_attrs\n"
SKYLAKE = "flags\t\t: fpu sse sse4_1 avx avx2 fma avx512f avx512vl\n"
HASWELL = "flags\t\t: fpu sse sse4_1 avx avx2 fma\n"
SAPPHIRE = "flags\t\t: avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"
GRAVITON3 = "Features\t: fp asimd sve bf16 i8mm\n"
GRAVITON2 = "Features\t: fp asimd\n"


@pytest.fixture
def describe(tmp_path, monkeypatch):
    def of(text):
        monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
        (tmp_path / "cpuinfo").write_text(text)
        processor.instruction_sets.cache_clear()
        return processor.instruction_sets()

    yield of
    processor.instruction_sets.cache_clear()


@pytest.mark.parametrize(
    ("text", "native"),
    [(ZEN4, True), (SAPPHIRE, True), (GRAVITON3, True), (SKYLAKE, False), (HASWELL, False), (GRAVITON2, False), ("processor: 0\n", False)],
)
def test_bfloat16_is_native_only_where_an_instruction_multiplies_it(text, native, describe):
    describe(text)
    assert processor.computes_bfloat16() is native


def test_only_what_decides_the_speed_is_named(describe):
    assert describe(HASWELL) == {"sse4_1", "avx", "avx2", "fma"}
    assert describe(GRAVITON3) == {"asimd", "sve", "bf16", "i8mm"}


def test_a_system_that_does_not_tell_has_no_known_instruction_sets(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "missing")
    processor.instruction_sets.cache_clear()
    try:
        assert processor.instruction_sets() == frozenset() and not processor.computes_bfloat16()
    finally:
        processor.instruction_sets.cache_clear()


def test_cores_are_those_of_this_process():
    assert processor.available_cores() == (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
