import re

import torch

from vae_core import TrainConfig, VAEConfig, fit
from vae_core.model import VAE
from vae_core.train import train

IMAGES = torch.randint(0, 256, (50, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MODEL = VAEConfig(image_shape=(1, 6, 6), latent_dim=3, hidden=(8,))


def test_fit_is_the_training_loop_and_says_how_long(capsys) -> None:
    config = TrainConfig(epochs=3, batch_size=10, seed=4, log_every=5)
    run = fit(MODEL, config, IMAGES)
    alone = VAE(MODEL, seed=4)
    records = list(train(alone, IMAGES, config))
    for ours, theirs in zip(run.model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [record.elbo for record in run.records] == [record.elbo for record in records]
    assert re.fullmatch(r"training mlp 8-3 on 50 images for 15 steps, about \d+ s\n", capsys.readouterr().out)


def test_fit_hands_the_data_mean_to_the_decoder() -> None:
    config = VAEConfig(image_shape=(1, 6, 6), hidden=(8,), likelihood="gaussian", sigma=1.0, output_bias="data_mean")
    run = fit(config, TrainConfig(epochs=0), IMAGES)
    torch.testing.assert_close(run.model.output_bias.detach(), IMAGES.float().mean(0) / 255)
    assert run.records == []
