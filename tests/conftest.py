"""Puts this folder on the path: ``small_programs`` serves the tests of several folders."""
