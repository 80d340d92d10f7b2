"""Packed features keep to the promised precision and size, and refuse what they cannot hold."""

import numpy as np
import pytest

from descant.data.feature_records import FeatureError, decode_record, encode_record, record_bytes

SHAPE = (128, 1001)


def round_trip(values: np.ndarray, encoding: str = "int16") -> np.ndarray:
    record = encode_record(values, values.shape, encoding)
    assert len(record) == record_bytes(values.shape, encoding)
    return decode_record(memoryview(record), 0, np.empty(values.shape, np.float32), encoding)


@pytest.mark.parametrize(("low", "high"), [(-100, 60), (-100, 100), (-100, -99.9), (0, 1e-6), (-100, 385)])
def test_decibels_of_any_range_come_back_within_five_thousandths(low, high):
    values = np.random.default_rng(0).uniform(low, high, SHAPE).astype(np.float32)
    values.flat[:2] = low, high
    assert np.abs(round_trip(values) - values).max() < 0.005


@pytest.mark.parametrize("value", [-100.0, 0.0, 3.25])
def test_constant_feature_is_exact(value):
    values = np.full((4, 4), value, np.float32)
    assert (round_trip(values) == values).all()


def test_ten_seconds_take_less_than_260_kb():
    assert record_bytes(SHAPE, "int16") == record_bytes(SHAPE, "float16") <= 260_000


def test_record_is_read_at_its_place_among_others():
    values = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    buffer = b"x" * 64 + encode_record(values, (2, 3), "float16")
    out = np.empty((2, 3), np.float32)
    assert decode_record(memoryview(buffer), 64, out, "float16") is out
    np.testing.assert_array_equal(out, values.astype(np.float16))


def test_damaged_header_is_told():
    record = b"x" + encode_record(np.zeros((2, 3), np.float32), (2, 3), "int16")[1:]
    with pytest.raises(FeatureError, match="header is damaged"):
        decode_record(memoryview(record), 0, np.empty((2, 3), np.float32), "int16")


@pytest.mark.parametrize(
    ("values", "encoding", "reason"),
    [
        (np.full((2, 3), np.nan, np.float32), "int16", "NaN or infinite"),
        (np.zeros((3, 2), np.float32), "int16", "does not fit"),
        (np.full((2, 3), 70_000, np.float32), "float16", "float16 cannot hold"),
    ],
)
def test_what_cannot_be_held_is_refused(values, encoding, reason):
    with pytest.raises(FeatureError, match=reason):
        encode_record(values, (2, 3), encoding)
