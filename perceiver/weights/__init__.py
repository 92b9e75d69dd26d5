"""Published weights as ours, and ours as others read them."""
