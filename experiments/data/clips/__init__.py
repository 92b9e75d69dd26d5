"""Clips of video with sound: indexes, decoding, augmentation."""
