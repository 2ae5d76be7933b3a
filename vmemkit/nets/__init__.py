"""Published networks, under their published parameter names: layers, the multi-view UNet."""
