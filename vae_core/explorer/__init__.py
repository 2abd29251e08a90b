"""Latent sliders: a widget, and a page without a server."""
