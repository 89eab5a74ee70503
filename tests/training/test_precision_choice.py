import torch

from raysearch.config.hyperparameter_spec import Value
from raysearch.training.precision_choice import CANDIDATES, choose_precision


def test_the_chosen_precision_is_one_of_the_candidates() -> None:
    hparams: dict[str, Value] = {"width": 4, "convolutions": 1}
    assert choose_precision("cnn", hparams, (16, 16, 3), 2, torch.device("cpu")) in CANDIDATES
