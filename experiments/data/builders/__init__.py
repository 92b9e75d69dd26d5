"""TFDS builders for data sets that TFDS lacks, one per module."""
