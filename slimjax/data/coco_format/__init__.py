"""Detection data in COCO's format: annotations, a TFDS builder, batches of arrays."""
