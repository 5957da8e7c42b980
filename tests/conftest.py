"""Puts this folder on the path: ``small_programs`` and ``real_models`` serve the tests of several folders."""

from paddleslim_files import peers, reference  # noqa: F401  (fixtures)
from real_models import paddledet_package, rapidocr_models  # noqa: F401  (fixtures)
