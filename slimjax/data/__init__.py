"""Images and labels: sources, decoding, the reading pipeline, augmentation."""
