"""Optical flow: data sets, generated scenes, augmentation."""
