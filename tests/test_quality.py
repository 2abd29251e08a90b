"""Image quality by number, on images and features whose numbers are known."""

import math

import pytest
import torch
import torch.nn.functional as F

from vae_core.data import load_images
from vae_core.quality import (
    classifier_features,
    components,
    frechet_against_floor,
    frechet_distance,
    high_frequency_energy,
    laplacian_energy,
    nearest,
    psnr,
    sharpness,
    ssim,
    train_classifier,
)

CHECKERBOARD = ((torch.arange(8)[:, None] + torch.arange(8)) % 2).double()


def random_images(n, channels=1, size=32, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def test_flat_images_and_ramps_have_no_laplacian_energy():
    ramp = torch.arange(8).double().expand(8, 8)
    images = torch.stack([torch.zeros(8, 8).double(), torch.full((8, 8), 0.7).double(), ramp, ramp.T + ramp])
    torch.testing.assert_close(laplacian_energy(images[:, None]), torch.zeros(4).double())


def test_energy_of_a_checkerboard_is_16_times_its_contrast_squared():
    images = torch.stack([CHECKERBOARD, 1 - CHECKERBOARD, 0.25 + CHECKERBOARD / 2])[:, None]
    torch.testing.assert_close(laplacian_energy(images), torch.tensor([16.0, 16, 4]).double())


def test_energy_of_a_dot_is_a_mean_over_inner_pixels():
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1
    assert laplacian_energy(dot).item() == pytest.approx((16 + 4) / 9)


def test_energy_is_a_mean_over_channels_kept_apart():
    flat = torch.zeros(8, 8).double()
    colour = torch.stack([CHECKERBOARD, flat, 1 - CHECKERBOARD])[None]  # their sum over channels is flat
    assert laplacian_energy(colour).item() == pytest.approx(32 / 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_sharpness_of_images_against_themselves_is_zero(channels):
    images = random_images(5, channels)
    assert sharpness(images, images) == 0
    assert sharpness(images[:2].repeat(3, 1, 1, 1), images[:2]) == pytest.approx(0, abs=1e-6)


def test_sharpness_is_the_log_of_a_ratio_of_energies():
    images = random_images(5)
    assert sharpness(images / 2, images) == pytest.approx(-math.log(4), abs=1e-5)
    assert sharpness(images, images / 2) == pytest.approx(math.log(4), abs=1e-5)


def test_sharpness_compares_mean_energies_not_mean_images():
    given = random_images(2)
    images = torch.cat([given * 2, torch.zeros_like(given)])
    assert sharpness(images, given) == pytest.approx(math.log(2), abs=1e-5)


def test_blurred_images_are_negative():
    images = random_images(5)
    assert sharpness(F.avg_pool2d(images, 3, stride=1), images) < -2


@pytest.mark.parametrize("n", [4, 25])
def test_the_mean_of_unlike_images_is_at_minus_log_n(n):
    images = random_images(n, size=64)
    assert sharpness(images.mean(0, keepdim=True), images) == pytest.approx(-math.log(n), abs=0.1)


def test_flat_images_are_at_minus_infinity():
    assert sharpness(torch.full((3, 1, 32, 32), 0.5), random_images(5)) == -math.inf


def test_no_images_are_refused():
    images, none = random_images(2), random_images(0)
    with pytest.raises(ValueError, match="at least one image"):
        sharpness(none, images)
    with pytest.raises(ValueError, match="at least one image"):
        sharpness(images, none)


def test_images_that_are_not_numbers_have_no_sharpness() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert math.isnan(sharpness(images * math.nan, images))


# --- one image next to its original ----------------------------------------------------------


def test_psnr_is_the_squared_error_in_decibels() -> None:
    given = random_images(3, channels=3) / 2
    images = torch.stack([given[0] + 0.1, given[1] - 0.01, given[2]])
    torch.testing.assert_close(psnr(images, given), torch.tensor([20, 40, math.inf]).double(), atol=1e-4, rtol=0)


def test_ssim_of_flat_images_compares_their_means() -> None:
    images, given = torch.full((1, 1, 8, 8), 0.4), torch.full((1, 1, 8, 8), 0.8)
    assert ssim(images, given).item() == pytest.approx((2 * 0.4 * 0.8 + 1e-4) / (0.4**2 + 0.8**2 + 1e-4), abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_one_for_a_copy_and_less_for_all_else(channels) -> None:
    given = random_images(2, channels)
    torch.testing.assert_close(ssim(given, given), torch.ones(2).double())
    blurred = F.avg_pool2d(given, 3, stride=1, padding=1)
    assert (ssim(blurred, given) < 0.8).all()
    assert (ssim(1 - given, given) < 0).all()
    assert ssim(given[..., :5, :5], given[..., :5, :5], window=5).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_images_unlike_their_originals_are_refused(measure) -> None:
    images = random_images(2)
    with pytest.raises(ValueError, match="2 images, 1 originals"):
        measure(images, images[:1])
    with pytest.raises(ValueError, match="1x32x32 cannot be compared with images of 1x16x32"):
        measure(images, images[:, :, :16])
    with pytest.raises(ValueError, match="must be floats"):
        measure((images * 255).byte(), images)
    with pytest.raises(ValueError, match="must be floats"):
        measure(images[0], images[0])


@pytest.mark.parametrize("window", [1, 4, 7])
def test_a_window_that_does_not_fit_is_refused(window) -> None:
    images = random_images(1, size=6)
    with pytest.raises(ValueError, match=f"images of 1x6x6, not {window}"):
        ssim(images, images, window=window)


# --- high frequencies ------------------------------------------------------------------------


def wave(cycles: int, size: int) -> torch.Tensor:
    """Cosine stripes of that many cycles an image: amplitude 1, power 1/2."""
    phase = 2 * math.pi * cycles * torch.arange(size).double() / size
    return phase.cos().expand(1, 1, size, size)


@pytest.mark.parametrize("size", [16, 28, 32])
def test_waves_count_above_a_quarter_of_a_cycle_a_pixel(size) -> None:
    for cycles in (0, 1, size // 4):
        assert high_frequency_energy(wave(cycles, size)).item() == pytest.approx(0, abs=1e-20)
    frequencies = [(i, j) for i in range(-size // 2, size // 2) for j in range(-size // 2, size // 2)]
    above = sum(16 * (i * i + j * j) > size * size for i, j in frequencies)
    energies = high_frequency_energy(torch.cat([wave(size // 4 + 1, size), wave(size // 4 + 1, size).mT]))
    torch.testing.assert_close(energies, torch.full((2,), size * size / 2 / above).double())


@pytest.mark.parametrize("channels", [1, 3])
def test_white_noise_has_its_variance_at_high_frequencies(channels) -> None:
    noise = torch.randn(50, channels, 20, 32, generator=torch.Generator().manual_seed(0))
    assert high_frequency_energy(0.5 + noise / 10).mean().item() == pytest.approx(0.01, rel=0.03)


def test_high_frequency_sharpness_is_the_log_of_a_ratio_of_energies() -> None:
    images = random_images(5)
    assert sharpness(images, images, high_frequency_energy) == 0
    assert sharpness(images / 2, images, high_frequency_energy) == pytest.approx(-math.log(4), abs=1e-5)
    assert sharpness(F.avg_pool2d(images, 3, stride=1), images, high_frequency_energy) < -2
    assert sharpness(torch.full_like(images, 0.7), images, high_frequency_energy) < -50
    with pytest.raises(ValueError, match="at least one image"):
        sharpness(images, images[:0], high_frequency_energy)


# --- Fréchet distance ------------------------------------------------------------------------


def normal(n: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed)).double()


def whitened(n: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    """Rows with mean 0 and the identity as their covariance, exactly."""
    rows = normal(n, dimensions, seed)
    rows = torch.linalg.qr(rows - rows.mean(0)).Q
    return rows * math.sqrt(n - 1)


def test_a_set_is_at_distance_zero_from_itself_in_any_order() -> None:
    features = normal(2500, 6) @ normal(6, 6, seed=1)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features.flip(0), features) == pytest.approx(0, abs=1e-9)
    few = normal(5, 40)  # a covariance without full rank
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)


def test_distance_of_diagonal_gaussians_is_the_closed_form() -> None:
    mean, given_mean = torch.tensor([1.0, -2, 0]).double(), torch.tensor([0.0, 2, 0]).double()
    deviation, given_deviation = torch.tensor([1.0, 2, 0]).double(), torch.tensor([3.0, 0.5, 1]).double()
    features = mean + deviation * whitened(1500, 3)
    given = given_mean + given_deviation * whitened(40, 3, seed=1)
    expected = 1 + 16 + 4 + 2.25 + 1  # squared differences of means, then of deviations
    assert frechet_distance(features, given) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(given, features) == pytest.approx(expected, abs=1e-6)


def test_distance_does_not_change_under_rotation_and_scales_with_the_square() -> None:
    features, given = normal(100, 4), 1 + normal(80, 4, seed=1) @ normal(4, 4, seed=2)
    rotation = torch.linalg.qr(normal(4, 4, seed=3)).Q
    distance = frechet_distance(features, given)
    assert frechet_distance(features @ rotation - 5, given @ rotation - 5) == pytest.approx(distance)
    assert frechet_distance(3 * features, 3 * given) == pytest.approx(9 * distance)


def test_distance_of_covariances_that_do_not_commute() -> None:
    """Tr (C1 C2)^(1/2) of 2x2 matrices is sqrt(Tr(C1 C2) + 2 sqrt(det C1 det C2))."""
    one, two = normal(2, 2, seed=4), normal(2, 2, seed=5)
    c1, c2 = one.T @ one, two.T @ two
    shared = ((c1 @ c2).trace() + 2 * (c1.det() * c2.det()).sqrt()).sqrt()
    expected = (c1.trace() + c2.trace() - 2 * shared).item()
    distance = frechet_distance(whitened(30, 2) @ one, whitened(50, 2, seed=1) @ two)
    assert distance == pytest.approx(expected)


def test_features_without_a_distance_are_refused() -> None:
    features = normal(5, 3)
    for wrong in (features[:1], features[0], features[:, :2]):
        with pytest.raises(ValueError, match="N > 1 and one F"):
            frechet_distance(features, wrong)
    with pytest.raises(ValueError, match="N > 1 and one F"):
        frechet_distance(features[:1], features)
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(features * math.nan, features)


def test_distances_are_of_as_many_samples_as_test_images() -> None:
    train, test, samples = normal(500, 4), normal(60, 4, seed=1), 1 + normal(90, 4, seed=2)
    distances = frechet_against_floor(samples, train, test)
    assert distances.images == 60
    assert distances.floor == pytest.approx(frechet_distance(test, train))
    assert distances.distance == pytest.approx(4, rel=0.4)
    assert distances.floor < 0.2
    assert frechet_against_floor(samples, train, test) == distances
    assert frechet_against_floor(samples, train, test, seed=1).distance != distances.distance
    assert frechet_against_floor(samples[:50], train, test).images == 50


def test_the_floor_does_not_depend_on_the_order_of_test_images() -> None:
    classes = torch.arange(1000)[:, None] // 100 * torch.ones(1, 2) * 3  # in order, far apart
    test = classes + normal(1000, 2)
    distances = frechet_against_floor(test[:100], test, test)
    assert distances.floor < 10 < distances.distance


# --- features --------------------------------------------------------------------------------


def test_components_are_the_directions_of_most_variance() -> None:
    directions = torch.linalg.qr(normal(75, 2)).Q
    along = whitened(40, 2) * torch.tensor([1.0, 5.0])
    images = (0.5 + along @ directions.T).reshape(40, 3, 5, 5)
    features = components(images, 2)(images)
    assert features.dtype == torch.float64
    torch.testing.assert_close(features.abs(), along.flip(1).abs())
    torch.testing.assert_close(components(images, 1)(images[:3]), features[:3, :1])
    torch.testing.assert_close(components(images, 2)(images[:1] * 0 + 0.5), torch.zeros(1, 2).double())


def test_all_components_together_keep_the_distance_of_pixels() -> None:
    images, given = random_images(100, size=5) / 2, random_images(1200, size=5, seed=1)
    distance = frechet_distance(components(given, 25)(images), components(given, 25)(given))
    assert distance == pytest.approx(frechet_distance(images.flatten(1), given.flatten(1)))


def test_components_that_are_not_there_are_refused() -> None:
    images = random_images(10, size=5)
    for dimensions in (0, 10):
        with pytest.raises(ValueError, match=f"1 to 9 components, not {dimensions}"):
            components(images, dimensions)(images)
    with pytest.raises(ValueError, match="cannot be compared"):
        components(images, 2)(images[..., :4])


@pytest.fixture(scope="module")
def digits():
    return load_images("digits-sample", limit=2000), load_images("digits-sample", "test")


@pytest.fixture(scope="module")
def classifier(digits):
    return train_classifier(digits[0].images, digits[0].labels)


def test_the_classifier_knows_digits_it_has_not_seen(classifier, digits) -> None:
    images = digits[1].images.float() / 255
    assert (classifier(images).argmax(1) == digits[1].labels).float().mean() > 0.92
    features = classifier_features(classifier, images)
    assert features.shape == (1000, 64)
    assert features.dtype == torch.float64
    torch.testing.assert_close(classifier[-1](features.float()), classifier(images))
    torch.testing.assert_close(classifier_features(classifier, images[:3]), features[:3], atol=1e-4, rtol=0)


def test_digits_are_nearer_the_floor_than_their_blurs(classifier, digits) -> None:
    train, test = (part.images.float() / 255 for part in digits)
    samples = torch.cat([test[::2], F.avg_pool2d(test[::2], 5, stride=1, padding=2)])
    everything = torch.cat([samples, train])
    for features in (classifier_features(classifier, everything), components(train)(everything)):
        real, blurred, given = features.split([500, 500, 2000])
        distances = frechet_against_floor(blurred, given, real)
        assert distances.images == 500
        assert distances.distance > 5 * distances.floor


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 11)])
def test_the_classifier_depends_on_its_seed_alone(shape) -> None:
    images = (random_images(33, shape[0])[..., : shape[1], : shape[2]] * 255).byte()
    labels = torch.arange(33) % 3
    state = torch.get_rng_state()
    with torch.no_grad():
        first = train_classifier(images, labels)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    features = [classifier_features(model, images / 255) for model in (first, train_classifier(images, labels))]
    assert torch.equal(*features)
    for other in (train_classifier(images, labels, seed=1), train_classifier(images, labels, epochs=1)):
        assert not torch.equal(classifier_features(other, images / 255), features[0])
    assert features[0].shape == (33, 64)


def test_images_that_cannot_be_classified_are_refused() -> None:
    images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4)
    for wrong in (images / 255, images[0], images[..., :7]):
        with pytest.raises(ValueError, match=r"uint8 \(N, C, H, W\) of 8x8 or more"):
            train_classifier(wrong, labels)


# --- memorisation ----------------------------------------------------------------------------


def test_copies_are_found_at_distance_zero() -> None:
    training = random_images(50, channels=3, size=8)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    found = nearest(training[order], training)
    assert torch.equal(found.index, order)
    assert torch.equal(found.distance, torch.zeros(50).double())


def test_distance_is_the_mean_squared_difference_a_pixel() -> None:
    training = torch.stack([torch.full((1, 4, 4), level) for level in (0.0, 0.5, 1.0)])
    found = nearest(torch.stack([torch.full((1, 4, 4), level) for level in (0.1, 0.7)]), training)
    assert found.index.tolist() == [0, 1]
    assert found.distance.tolist() == pytest.approx([0.01, 0.04])


def test_nearest_is_what_comparing_with_each_says() -> None:
    training, images = random_images(600, size=8), random_images(45, size=8, seed=1)
    result = nearest(images, training)
    distances = (images[:, None] - training).double().square().flatten(2).mean(2)
    assert torch.equal(result.index, distances.argmin(1))
    torch.testing.assert_close(result.distance, distances.amin(1), atol=1e-7, rtol=0)


def test_nearest_refuses_what_it_cannot_compare() -> None:
    images = random_images(2, size=8)
    assert len(nearest(images[:0], images).index) == 0
    with pytest.raises(ValueError, match="needs a training image"):
        nearest(images, images[:0])
    with pytest.raises(ValueError, match="cannot be compared"):
        nearest(images, images[..., :7])
    with pytest.raises(ValueError, match="must be floats"):
        nearest(images, (images * 255).byte())
