"""Time and memory of training, compared with other trainers and with the form's estimates."""
