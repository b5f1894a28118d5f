"""Only whole models in safetensors are accepted; what is refused says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.model_weights import check_weights
from jobs.sources import SourceMissing


def model(directory: Path, *names: str) -> Path:
    """Make a directory with empty files: their contents are never looked at."""
    for name in names:
        (directory / name).touch()
    return directory


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "weights.pt", "model.pth"]
)
def test_pickled_weights_are_refused_with_the_way_to_convert_them(
    tmp_path: Path, name: str
) -> None:
    """They would run whatever their author liked."""
    with pytest.raises(SourceMissing, match=f"{name}`, a format that can run code") as caught:
        check_weights(model(tmp_path, "config.json", "training_args.bin", name))
    assert "save_pretrained" in caught.value.fix


def test_safetensors_beside_them_are_what_is_loaded(tmp_path: Path) -> None:
    """Published models often have both."""
    check_weights(model(tmp_path, "config.json", "model.safetensors", "pytorch_model.bin"))


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    """transformers would load the base that the adapter names instead."""
    with pytest.raises(SourceMissing, match="is an adapter") as caught:
        check_weights(model(tmp_path, "config.json", "model.safetensors", "adapter_config.json"))
    assert "--merge" in caught.value.fix


def test_a_directory_without_weights_is_the_workers_to_refuse(tmp_path: Path) -> None:
    """Nothing is known against it here."""
    check_weights(model(tmp_path, "config.json", "training_args.bin"))
