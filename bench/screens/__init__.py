"""Waiting times of people in a real browser."""
