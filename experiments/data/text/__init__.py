"""Text: corpora, tokenizers, masking, GLUE."""
