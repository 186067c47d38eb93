"""The table: round trips, features in [0, 1], flags instead of sentinels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.errors import StoreError
from host.sensitivity.table import INT8, SETTINGS, Entry, SensitivityTable

rows = st.lists(
    st.tuples(st.floats(0, 50), st.booleans()), min_size=len(SETTINGS), max_size=len(SETTINGS)
)


@st.composite
def tables(draw: st.DrawFn) -> SensitivityTable:
    entries = [
        Entry(layer, setting, kl if supported else 0.0, supported)
        for layer in ("a", "b")
        for setting, (kl, supported) in zip(SETTINGS, draw(rows), strict=True)
    ]
    return SensitivityTable(tuple(entries), draw(st.integers(1, 1000)))


@given(table=tables())
def test_a_table_survives_json(table):
    assert SensitivityTable.from_json(table.to_json()) == table


@given(table=tables())
def test_features_lie_between_zero_and_one_and_keep_their_shape(table):
    for layer, features in table.all_features().items():
        sizes = {kind: len(values) for kind, values in features.items()}
        assert sizes == {"prune": 10, "act": 6, "weight": 6, "int8": 1}
        assert all(0.0 <= value <= 1.0 for values in features.values() for value in values)
        mask = table.mask(layer)
        for kind, values in features.items():
            assert all(v == 0.0 for v, m in zip(values, mask[kind], strict=True) if not m)


def test_an_unsupported_setting_has_no_value():
    table = SensitivityTable(tuple(Entry("a", s, 1.0, s != INT8) for s in SETTINGS), 1)
    assert table.kl("a", INT8) is None
    assert table.kl("a", SETTINGS[0]) == 1.0


def test_another_format_is_refused():
    with pytest.raises(StoreError, match="format"):
        SensitivityTable.from_dict({"format": 0})
