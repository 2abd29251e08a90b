"""Pixels from torchvision's files, from a folder, from installed packages."""
