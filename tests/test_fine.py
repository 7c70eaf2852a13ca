"""The U-Net for likelihoods: what it is shown, and that it can begin as the shipped one."""

import math

import pytest
import torch
from torch.testing import assert_close

from tutorial_lib import checkpoint, data
from tutorial_lib.beyond.fine import (
    SCHEDULE,
    FineConfig,
    FineUNet,
    estimates,
    fine_decoder,
    fine_denoiser,
    fourier,
)
from tutorial_lib.beyond.variational import continuous, decoder_nats, noised
from tutorial_lib.nets.unet import UNet, UNetConfig, restore


def test_the_waves_of_grey_levels():
    """Between two levels they turn once: on each level the same, half way opposite."""
    levels = torch.arange(256, dtype=torch.float64).view(256, 1, 1, 1) / 127.5 - 1
    waves = fourier(levels, (255.0,))
    assert waves.shape == (256, 2, 1, 1)
    assert_close(waves[:, 0], torch.zeros_like(waves[:, 0]), rtol=0, atol=1e-9)
    assert_close(waves[:, 1], -torch.ones_like(waves[:, 1]))
    assert_close(fourier(levels + 1 / 255, (255.0,))[:, 1], torch.ones_like(waves[:, 1]))
    assert fourier(levels, ()).shape == (256, 0, 1, 1)


def test_waves_as_in_the_paper(generator):
    z = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    waves = fourier(z, (2**7, 2**8))
    assert waves.shape == (2, 12, 4, 4)
    assert_close(waves[:, 9:12], torch.cos(256 * math.pi * z))


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("frequencies", [(), (255.0,)])
def test_it_begins_as_the_shipped_network(edges, frequencies, generator):
    shipped = restore(*checkpoint.load("fashion_mnist"))
    network = FineUNet(FineConfig(edges=edges, frequencies=frequencies))
    network.begin_as(shipped)
    x_0 = data.to_model(data.load("embedded", "test").pixels[:3])
    gamma = torch.tensor([-10.0, -5.0, 2.0])
    z = noised(x_0, gamma, torch.randn(x_0.shape, generator=generator))
    with torch.no_grad():
        found = fine_denoiser(network)(z, gamma)
        expected = continuous(shipped, SCHEDULE, target="v", clip=True)(z, gamma)
        _, sigma = estimates(network, z, gamma)
    assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert_close(sigma, (gamma / 2).exp().view(3, 1, 1, 1).expand(sigma.shape))


def test_it_refuses_a_network_of_another_shape():
    with pytest.raises(ValueError, match="same patch, widths and blocks"):
        FineUNet(FineConfig()).begin_as(UNet(UNetConfig(widths=(16, 32))))


def test_what_the_new_inputs_are_shown(generator):
    """Black and white are 0 where z is exactly as bright; far from it they end at 1 and -1."""
    network, seen = FineUNet(FineConfig(frequencies=(255.0,))), []
    network.unet.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    gamma = torch.full((1,), -9.0)
    z = torch.full((1, 1, 28, 28), -1.0) * (1 / (1 + math.exp(-9.0))) ** 0.5
    network(z, gamma)
    (shown,) = seen
    assert shown.shape == (1, 5, 28, 28)
    assert_close(shown[:, 1], torch.zeros(1, 28, 28), rtol=0, atol=1e-4)
    assert_close(shown[:, 2], -torch.ones(1, 28, 28))


def test_the_decoder_of_the_network(generator):
    network = FineUNet(FineConfig(widths=(8, 8)))
    x_0 = data.to_model(data.load("embedded", "test").pixels[:2])
    z = noised(x_0, torch.full((2,), -10.0), torch.randn(x_0.shape, generator=generator))
    with torch.no_grad():
        x_0_hat, sigma = estimates(network, z, torch.full((2,), -10.0))
        found = fine_decoder(network, -10.0)(x_0, z)
    assert_close(found, decoder_nats(x_0, x_0_hat.clamp(-1, 1), sigma))
    assert found.shape == (2,)
