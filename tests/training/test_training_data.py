import torch

from raysearch.training.training_data import TrainingData
from support.auxiliary_rows import with_auxiliary


def test_auxiliary_rows_are_numbered_after_the_rows_of_the_study(data: TrainingData) -> None:
    extended = with_auxiliary(data)
    pixels = torch.cat([data.pixels, *(rows.pixels for rows in extended.auxiliary)])
    rows = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(1))[:99]
    assert torch.equal(extended.gather(rows), pixels[rows])
