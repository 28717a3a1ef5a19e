"""What runs leave beside their verdict, and a matrix of transfer."""
