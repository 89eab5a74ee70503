import pytest

from raysearch.training.checkpoint import pack, pack_checkpoint, unpack, unpack_checkpoint
from raysearch.training.loop import train
from raysearch.training.training_data import TrainingData
from support.recorded_training import Recorder, small_config


@pytest.fixture
def checkpoint(data: TrainingData) -> bytes:
    """The checkpoint of the first fold-epoch of a small trial."""
    recorder = Recorder(stop_after=1)
    with pytest.raises(InterruptedError):
        train(small_config(), data, recorder)
    return recorder.checkpoints[0]


def test_a_checkpoint_is_read_as_it_was_written(checkpoint: bytes) -> None:
    state = unpack_checkpoint(checkpoint)
    assert [fold_epoch.epoch for fold_epoch in state.history] == [1]
    assert unpack_checkpoint(pack_checkpoint(state)).history == state.history


def test_a_checkpoint_with_any_changed_byte_is_rejected(checkpoint: bytes) -> None:
    for position in [*range(60), *range(60, len(checkpoint), 997)]:
        changed = bytes([checkpoint[position] ^ 1])
        with pytest.raises(ValueError, match="hash does not match"):
            unpack(checkpoint[:position] + changed + checkpoint[position + 1 :])
    with pytest.raises(ValueError, match="hash does not match"):
        unpack(checkpoint[:-1])


def test_a_file_with_other_keys_is_no_checkpoint(checkpoint: bytes) -> None:
    content = unpack(checkpoint)
    del content["stage"]
    with pytest.raises(ValueError, match="of another version of raysearch"):
        unpack_checkpoint(pack(content))
