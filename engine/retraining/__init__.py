"""Retraining: feedback gathered as rows, a new version trained, judged by a gate and put into use."""
