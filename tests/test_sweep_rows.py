"""Parameters of notebooks, and where the rows of a sweep come from."""

import json

import pytest

from vae_core.study import sweep


@pytest.mark.parametrize("parameter", ["2,4,10", "2, 4 ,10", [2, 4, 10], (2, 4, 10), ["2", "4", "10"]])
def test_whole_numbers_as_papermill_may_hand_them_over(parameter) -> None:
    assert sweep.whole_numbers(parameter) == [2, 4, 10]
    assert sweep.whole_numbers(4) == sweep.whole_numbers("4") == [4]


@pytest.mark.parametrize("parameter", ["", "2;4", 2.5, [2.5], None, "a"])
def test_what_is_no_whole_number_is_named(parameter) -> None:
    with pytest.raises(ValueError, match="whole numbers between commas are needed, such as 2,4,10, not ") as error:
        sweep.whole_numbers(parameter)
    assert repr(parameter) in str(error.value)


def test_sweeps_come_from_the_folder_that_is_named_where_it_has_them(tmp_path, monkeypatch) -> None:
    published = sweep.load_sweep("ladder_mnist")
    monkeypatch.setenv("VAE_CORE_SWEEPS", str(tmp_path))
    assert sweep.load_sweep("ladder_mnist").equals(published)
    (tmp_path / "sweep_ladder_mnist.json").write_text(json.dumps({"source": "mine", "rows": [{"x": 1}]}))
    assert sweep.load_sweep("ladder_mnist").to_dict("records") == [{"x": 1}]
    with pytest.raises(ValueError, match="sweep_none"):
        sweep.load_sweep("none")
