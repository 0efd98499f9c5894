"""Faster, Mask and Keypoint R-CNN on a slimmable backbone."""
