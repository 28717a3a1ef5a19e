"""What evaluations and judges leave."""
