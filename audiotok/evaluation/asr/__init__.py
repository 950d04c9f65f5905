"""Recognizers write down what is said; each file is one engine."""
