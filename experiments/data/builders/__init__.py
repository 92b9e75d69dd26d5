"""TFDS builders for what TFDS lacks; one module each, with its one builder."""
