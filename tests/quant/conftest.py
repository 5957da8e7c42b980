"""Helpers of this folder: ``grids``; of all: ``small_programs``."""
