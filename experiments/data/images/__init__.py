"""Images: data sets, augmentation, resizing."""
