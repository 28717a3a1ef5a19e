"""What ratings tell of those who rated: agreement, reliability, and judges held against people."""
