"""Tables of others: words alone are read, and no more of them than a file of this size may hold."""

import pyarrow
import pytest
from pyarrow import parquet

from data_pipelines.plain_tables import read_words


def written(path, columns):
    parquet.write_table(pyarrow.table(columns), path, compression="zstd")
    return path


def test_words_of_parquet_are_read_with_what_is_missing_and_what_stands_in_lists(tmp_path):
    columns = {"a": ["x", None, "x"], "b": [["u", "v"], None, []], "c": [1, 2, 3]}
    rows = list(read_words(written(tmp_path / "a.parquet", columns), ["b", "a"], lists=["b"]))
    assert rows == [{"b": ["u", "v"], "a": "x"}, {"b": None, "a": None}, {"b": [], "a": "x"}]


NO_WORDS = {
    "one long word in every row": ({"a": ["x" * 10**6] * 200}, "a would unpack to more than"),
    "words that pack well": (
        {"a": [f"{n}" + "x" * 10**6 for n in range(80)]},
        "it would unpack to more than",
    ),
    "rows of nothing": ({"a": pyarrow.nulls(10**6, pyarrow.string())}, "1,000,000 rows in"),
    "lists without end": ({"a": [["x"] * 10**6]}, "1,000,000 values of the column a"),
    "a far day": ({"a": pyarrow.array([2**30], pyarrow.date32())}, "type date32"),
    "another column": ({"b": ["x"]}, "no columns with the name 'a'"),
}


@pytest.mark.parametrize(("columns", "said"), NO_WORDS.values(), ids=NO_WORDS)
def test_parquet_that_would_unpack_without_end_or_has_no_words_is_refused(tmp_path, columns, said):
    with pytest.raises(ValueError, match=said):
        list(read_words(written(tmp_path / "a.parquet", columns), ["a"], lists=["a"]))


def test_a_column_of_parquet_that_stands_there_twice_is_refused(tmp_path):
    table = pyarrow.table([["x"], ["y"]], names=["a", "a"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="2 columns with the name 'a'"):
        list(read_words(tmp_path / "a.parquet", ["a"]))
